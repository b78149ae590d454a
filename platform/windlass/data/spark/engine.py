"""Prepare's SQL on Spark: for tables that outgrow one machine."""

# ruff: noqa: S608 - no text of a user enters SQL other than as a quoted literal

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pyspark.errors import PySparkException

from windlass.data.bundle import Written
from windlass.data.duckdb_engine import DuckDBEngine, line_at
from windlass.data.engine import Reject
from windlass.data.spark.blocks import BLOCK, BUCKET, Unpack, values_in
from windlass.data.spark.parts import Parts, plan_parts, quotes_of_range, readable
from windlass.data.spark.session import SessionSettings
from windlass.data.spark.shards import BucketQuery, ShardWriter, collect_shards
from windlass.data.spark.staging import REPORT, ReportOfPart, StageParts
from windlass.data.tables import RawTable
from windlass.data.totals import Summed, Totals
from windlass.errors import WindlassError
from windlass.progress import Tracker, track

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.status import StatusTracker

_POLL_S = 0.5
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
    """The rows of a table, kept on the disks of those that read them: keys as columns, all else in blocks."""

    name: str
    frame: DataFrame
    task: StageParts

    @property
    def blocks(self) -> DataFrame:
        return self.frame.where(f"{BLOCK} IS NOT NULL").select(BUCKET, BLOCK)

    def show(self, values: set[str]) -> None:
        """Make them readable as the relation `name`, with these columns of values and all keys."""
        import pyarrow as pa

        schema, keys = self.task.schema, self.task.keys
        wanted = [name for name in schema.names if name in values]
        if wanted:
            columns = (*keys, *wanted)
            fields = _spark_schema(pa.schema([schema.field(name) for name in columns]))
            rows = self.blocks.select(BLOCK).mapInArrow(Unpack(columns), fields)
        else:
            rows = self.frame.where(f"{BLOCK} IS NULL AND {REPORT} IS NULL").select(*keys)
        rows.createOrReplaceTempView(self.name)


class SparkEngine:
    """See `windlass.data.engine.Engine`. Its session is the caller's, who stops it."""

    def __init__(self, session: SparkSession, settings: SessionSettings) -> None:
        self._session, self._settings = session, settings
        self._works = 0
        self._sources: dict[str, Parts] = {}
        self._reports: list[ReportOfPart] = []
        self._staged: _Staged | None = None
        self._kept: dict[str, str] = {}

    def open(self, name: str, table: RawTable) -> None:
        """See `Engine.open`. Only `sample` and `stage` read it."""
        context = self._session.sparkContext

        def count_quotes(ranges: Sequence[tuple[str, int, int]]) -> Any:
            counted = context.parallelize(ranges, len(ranges)).map(quotes_of_range)
            return self._watched("counting quotes", counted.collect)

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

    def stage(self, name: str, query: str, source: str, totals: Totals) -> list[tuple[Any, ...]] | None:
        """See `Engine.stage`. The query has to have the column `digest`."""
        from pyspark import StorageLevel

        opened = self._sources[source]
        task = StageParts(
            query,
            source,
            totals,
            opened.parts,
            self._schema(source, query),
            opened.buckets,
            self._settings.task_memory_bytes,
            self._directory,
        )
        count = len(opened.parts)
        numbers = self._session.range(0, count, 1, count)
        frame = numbers.mapInArrow(task, _spark_schema(task.reply)).persist(StorageLevel.DISK_ONLY)
        self._staged = _Staged(name, frame, task)
        reports = frame.where(f"{REPORT} IS NOT NULL").select(REPORT)
        self._reports = [ReportOfPart.from_json(row[0]) for row in self._watched("reading rows", reports.collect)]
        summed = Summed(totals)
        for report in self._reports:
            summed.add(report.totals)
        return summed.rows

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

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """See `Engine.rows`."""
        table = self._watched("checking rows", self._query(query).toArrow)
        return list(zip(*(column.to_pylist() for column in table.columns), strict=True))

    def keep(self, name: str, query: str) -> None:
        """See `Engine.keep`. Computed again where it is asked for: on the keys of all rows, or on one bucket's rows."""
        self._query(query).createOrReplaceTempView(name)
        self._kept[name] = query

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
        staged = self._staged
        assert staged is not None
        query = f"SELECT {columns} FROM {relation} ORDER BY {', '.join(order)}"
        bucket = BucketQuery(
            staged.name,
            staged.task.schema,
            dict(self._kept),
            query,
            self._settings.task_memory_bytes,
            self._directory,
        )
        writer = ShardWriter(self._settings.scratch or str(output), bucket, schema, num_classes)
        moved = staged.blocks.repartitionById(staged.task.buckets, BUCKET).select(BLOCK)
        written = self._watched("writing shards", moved.mapInArrow(writer, ShardWriter.REPLY).collect)
        return collect_shards([row.asDict() for row in written], writer.place, output, num_classes)

    @contextmanager
    def shards(self, name: str, table: RawTable) -> Iterator[DuckDBEngine]:
        """See `Engine.shards`."""
        with self._reader(self._settings.reader_threads) as reader:
            reader.open(name, table)
            yield reader

    def close(self) -> None:
        """Cancel what runs, and free the room of what was kept."""
        self._session.sparkContext.cancelAllJobs()
        if self._staged is not None:
            self._staged.frame.unpersist()

    def _query(self, query: str) -> DataFrame:
        """A query over the staged rows, of which no more is read than it names."""
        if self._staged is not None:
            self._staged.show(values_in(query))
        return self._session.sql(query)

    def _schema(self, source: str, query: str) -> pa.Schema:
        """What a query over an opened relation gives."""
        with readable(self._sources[source].parts[0], self._settings.directory) as here, self._reader() as reader:
            reader.open(source, here.table)
            return reader.schema(query)

    @property
    def _directory(self) -> str | None:
        """For tasks; None: they do not see the disk of this process."""
        return None if self._settings.scratch else str(self._settings.directory)

    @contextmanager
    def _reader(self, threads: int = 1) -> Iterator[DuckDBEngine]:
        memory_bytes = self._settings.reader_memory_bytes
        with tempfile.TemporaryDirectory(dir=self._settings.directory) as directory:
            reader = DuckDBEngine(Path(directory), memory_limit_bytes=memory_bytes, threads=threads)
            try:
                yield reader
            finally:
                reader.close()

    def _watched(self, doing: str, work: Callable[[], _Result]) -> _Result:
        """Do work with Spark, and tell its progress by tasks."""
        finished, context = threading.Event(), self._session.sparkContext
        self._works += 1
        group = f"windlass-{self._works}"
        context.setJobGroup(group, doing)
        with track(f"prepare: {doing}", unit="tasks") as bar:
            thread = threading.Thread(target=_poll, args=(context.statusTracker(), group, bar, finished), daemon=True)
            thread.start()
            try:
                return work()
            except PySparkException as error:
                raise SparkTaskError(_cause(str(error))) from error
            finally:
                finished.set()
                thread.join()


def _poll(status: StatusTracker, group: str, bar: Tracker, finished: threading.Event) -> None:
    """Tell how many tasks of a group of jobs have ended, of those that are known."""
    while not finished.wait(_POLL_S):
        jobs = [status.getJobInfo(job) for job in status.getJobIdsForGroup(group)]
        found = [status.getStageInfo(stage) for job in jobs if job for stage in job.stageIds]
        stages = [stage for stage in found if stage is not None]
        if stages:
            bar.total = sum(stage.numTasks for stage in stages)
            bar.update(sum(stage.numCompletedTasks for stage in stages))


def _cause(text: str) -> str:
    """The last line of the traceback of a task in Python, or the first line of what Spark says."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    raised = [line for line in lines if _RAISED.match(line)]
    return (raised[-1] if raised else lines[0])[:300]


def _spark_schema(schema: pa.Schema) -> Any:
    from pyspark.sql.pandas.types import from_arrow_schema

    return from_arrow_schema(schema)
