"""Prepare's SQL on Spark: for tables that outgrow one machine.

Spark distributes: it runs tasks, moves what they hand over to the bucket that it is of, keeps that on disks, and does
again what is lost. What is in it only the tasks know, in which DuckDB reads and computes.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from py4j.protocol import Py4JError, Py4JJavaError

from windlass.data.bundle import Written
from windlass.data.duckdb_engine import DuckDBEngine, line_at, open_duckdb
from windlass.data.engine import Reject
from windlass.data.spark.buckets import Buckets, SumBucket
from windlass.data.spark.parts import Parts, plan_parts, quotes_of_range, readable
from windlass.data.spark.session import SessionSettings
from windlass.data.spark.shards import ShardWriter, collect_shards
from windlass.data.spark.staging import ReportOfPart, StageParts
from windlass.data.tables import RawTable
from windlass.data.totals import Found, Totals, add_up
from windlass.errors import WindlassError
from windlass.progress import Tracker, track

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark import RDD, SparkContext
    from pyspark.status import StatusTracker

_POLL_S = 0.5
_SUMS_AT_ONCE = 8
"""Buckets for each slot whose totals this process holds before it adds them."""
_SHOWN_REJECTS = 10
_RAISED = re.compile(r"([a-z_]+\.)*[A-Z][A-Za-z]+(Error|Exception): ")
_Result = TypeVar("_Result")


class SparkTaskError(WindlassError):
    """A task failed as often as Spark repeats one."""

    def __init__(self, cause: str) -> None:
        super().__init__(
            f"data.engine: spark: a task failed: {cause}; where that is of its memory, raise resources.memory (on a "
            "cluster data.executor_memory), else run the same command again"
        )
        self.cause = cause


@dataclass(frozen=True)
class _Staged:
    """The rows of a table by bucket, kept on the disks of those that read them."""

    pairs: RDD[tuple[int, Any]]
    """A partition for each bucket, and a last one of the parts' reports."""
    count: int
    buckets: Buckets


class SparkEngine:
    """See `windlass.data.engine.Engine`. Its context is the caller's, who stops it."""

    def __init__(self, context: SparkContext, settings: SessionSettings) -> None:
        self._context, self._settings = context, settings
        self._works = 0
        self._sources: dict[str, Parts] = {}
        self._reports: list[ReportOfPart] = []
        self._staged: _Staged | None = None

    def open(self, name: str, table: RawTable) -> None:
        """See `Engine.open`. Only `sample` and `stage` read it."""
        context = self._context

        def count_quotes(ranges: Sequence[tuple[str, int, int]]) -> Any:
            counted = context.parallelize(ranges, len(ranges)).map(quotes_of_range)
            return self._watched("counting quotes", len(ranges), counted.collect)

        self._sources[name] = plan_parts(table, self._settings.slots, count_quotes)

    def sample(self, name: str, count: int, query: str | None = None) -> list[tuple[Any, ...]]:
        """See `Engine.sample`; read by this process, for a session takes seconds to start its first task."""
        found: list[tuple[Any, ...]] = []
        for part in self._sources[name].parts:
            with readable(part, self._settings.directory) as here, self._reader() as reader:
                reader.open(name, here.table)
                found += reader.sample(name, count - len(found), query)
            if len(found) >= count:
                break
        return found

    def stage(self, name: str, query: str, source: str, totals: Sequence[Totals]) -> list[Found]:
        """See `Engine.stage`. The query has to have the column `digest`."""
        opened, memory_bytes = self._sources[source], self._settings.task_memory_bytes
        task = StageParts(query, source, tuple(totals), opened.parts, opened.buckets, memory_bytes, self._directory)
        buckets = Buckets(name, self._schema(source, query), {}, memory_bytes, self._directory)
        numbers = self._context.parallelize(range(len(opened.parts)), len(opened.parts))
        pairs: RDD[tuple[int, Any]] = numbers.flatMap(task).partitionBy(opened.buckets + 1, int)
        self._staged = _Staged(pairs, opened.buckets, buckets)
        reports = [opened.buckets]
        self._reports = self._watched(
            "reading rows", len(opened.parts), lambda: self._context.runJob(pairs, _second, reports)
        )
        return add_up(totals, (report.totals for report in self._reports))

    def rejects(self, name: str) -> tuple[int, list[Reject]]:
        """See `Engine.rejects`."""
        files = {file.uri: file for part in self._sources[name].parts for file in part.table.files}
        order = {uri: position for position, uri in enumerate(files)}
        found: list[Reject] = []
        with_rejects = [part for part in self._reports if part.count]
        for part in sorted(with_rejects, key=lambda each: (order[each.uri], each.start)):
            if len(found) >= _SHOWN_REJECTS:
                break
            before = line_at(files[part.uri], part.start + 1) - 1 if part.start else 0
            for each in part.first:
                line = None if each.line is None else each.line + before - part.added_lines
                found.append(Reject(each.file, line, each.column, each.reason))
        return sum(part.count for part in self._reports), found[:_SHOWN_REJECTS]

    def totals(self, relation: str, totals: Sequence[Totals]) -> list[Found]:
        """See `Engine.totals`."""
        staged = self._there
        task, at_once = SumBucket(staged.buckets, relation, tuple(totals)), _SUMS_AT_ONCE * self._settings.slots

        def found() -> Iterator[list[Found]]:
            for first in range(0, staged.count, at_once):
                some = range(first, min(first + at_once, staged.count))
                yield from self._context.runJob(staged.pairs, task, some)

        return self._watched("checking rows", staged.count, lambda: add_up(totals, found()))

    def keep(self, name: str, query: str) -> None:
        """See `Engine.keep`. Computed again where it is asked for, on one bucket's rows."""
        staged = self._there
        kept = {**staged.buckets.kept, name: query}
        self._staged = replace(staged, buckets=replace(staged.buckets, kept=kept))

    def write(
        self,
        columns: str,
        relation: str,
        order: Sequence[str],
        *,
        output: Path,
        schema: pa.Schema,
        num_classes: int | None,
    ) -> Written:
        """See `Engine.write`. DuckDB sorts and writes each bucket, for no row needs one of another bucket."""
        staged, place = self._there, self._settings.scratch or str(output)
        query = f"SELECT {columns} FROM {relation} ORDER BY {', '.join(order)}"  # noqa: S608 - the program's own
        writer = ShardWriter(place, staged.buckets, query, schema, num_classes)
        written = self._watched(
            "writing shards",
            staged.count,
            lambda: self._context.runJob(staged.pairs, writer, range(staged.count)),
        )
        return collect_shards(written, place, output, num_classes)

    @contextmanager
    def shards(self, name: str, table: RawTable) -> Iterator[DuckDBEngine]:
        """See `Engine.shards`."""
        with self._reader(self._settings.reader_threads) as reader:
            reader.open(name, table)
            yield reader

    def close(self) -> None:
        """Cancel what runs."""
        self._context.cancelAllJobs()

    @property
    def _there(self) -> _Staged:
        assert self._staged is not None
        return self._staged

    def _schema(self, source: str, query: str) -> pa.Schema:
        """What a query over an opened relation gives."""
        with readable(self._sources[source].parts[0], self._settings.directory) as here, self._reader() as reader:
            reader.open(source, here.table)
            return reader.schema(query)

    @property
    def _directory(self) -> str | None:
        """For tasks; None: they do not see the disk of this process."""
        return None if self._settings.scratch else str(self._settings.directory)

    def _reader(self, threads: int = 1) -> AbstractContextManager[DuckDBEngine]:
        settings = self._settings
        return open_duckdb(settings.directory, memory_limit_bytes=settings.reader_memory_bytes, threads=threads)

    def _watched(self, doing: str, tasks: int, work: Callable[[], _Result]) -> _Result:
        """Do work with Spark, and tell its progress by tasks."""
        finished, context = threading.Event(), self._context
        self._works += 1
        group = f"windlass-{self._works}"
        context.setJobGroup(group, doing)
        with track(f"prepare: {doing}", total=tasks, unit="tasks") as bar:
            watch = (context.statusTracker(), group, tasks, bar, finished)
            thread = threading.Thread(target=_poll, args=watch, daemon=True)
            thread.start()
            try:
                return work()
            except Py4JJavaError as error:
                raise SparkTaskError(_cause(str(error.java_exception.getMessage()))) from error
            finally:
                finished.set()
                thread.join()


def _second(pairs: Iterable[tuple[int, _Result]]) -> Iterator[_Result]:
    return (value for _, value in pairs)


def _poll(status: StatusTracker, group: str, tasks: int, bar: Tracker, finished: threading.Event) -> None:
    """Tell how many tasks of a group of jobs have ended; those that do lost work again are not told."""
    while not finished.wait(_POLL_S):
        try:
            jobs = [status.getJobInfo(job) for job in status.getJobIdsForGroup(group)]
            stages = [status.getStageInfo(stage) for job in jobs if job for stage in job.stageIds]
        except (Py4JError, OSError):
            # Java has ended; the work itself fails of that, and says so
            return
        ended = sum(stage.numCompletedTasks for stage in stages if stage is not None)
        bar.update(max(bar.done, min(ended, tasks)))


def _cause(text: str) -> str:
    """The last line of the traceback of a task in Python, or the first line of what Spark says."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    raised = [line for line in lines if _RAISED.match(line)]
    return (raised[-1] if raised else lines[0])[:300]
