"""Prepare's SQL on Spark: for tables that outgrow one machine."""

# ruff: noqa: S608 - no text of a user enters SQL other than as a quoted literal

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pyspark.errors import PySparkException

from windlass.data.bundle import SHARD_BYTES, Written
from windlass.data.duckdb_engine import DuckDBEngine, line_at
from windlass.data.engine import Reject
from windlass.data.spark.parts import plan_parts, quotes_of_range, readable
from windlass.data.spark.session import SessionSettings
from windlass.data.spark.shards import ShardWriter, clear, collect_shards
from windlass.data.spark.source import NAME, REJECTS, ReadTask, RejectsOfPart, TableSource
from windlass.data.tables import RawTable
from windlass.errors import WindlassError
from windlass.progress import Tracker

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

_POLL_S = 0.5
_SHOWN_REJECTS = 10
_TEXT_BYTES = 20
"""Of a text in memory, as an estimate."""
_BINS = 1 << 16
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


class SparkEngine:
    """See `windlass.data.engine.Engine`. Its session is the caller's, who stops it."""

    def __init__(self, session: SparkSession, settings: SessionSettings, *, tracker: Tracker | None = None) -> None:
        self._session, self._settings, self._tracker = session, settings, tracker
        self._tasks: dict[str, ReadTask] = {}
        self._rejects: list[RejectsOfPart] = []
        self._kept: list[DataFrame] = []
        self._origins: dict[str, str] = {}
        """Of the shards on this process's disk, which executors do not see: where they read them."""
        session.dataSource.register(TableSource)

    def open(self, name: str, table: RawTable) -> None:
        """See `Engine.open`."""
        files = tuple(replace(file, uri=self._origins.get(file.uri, file.uri)) for file in table.files)
        table = replace(table, files=files)
        columns = ", ".join(f"c{i}" for i in range(len(table.columns)))
        self._tasks[name] = self._task(name, table, f"SELECT {columns} FROM {name}")
        self._load(self._tasks[name]).drop(REJECTS).createOrReplaceTempView(name)

    def sample(self, name: str, count: int) -> list[tuple[Any, ...]]:
        """See `Engine.sample`; read by this process, for a session takes seconds to start its first task."""
        task, found = self._tasks[name], list[tuple[Any, ...]]()
        for part in task.parts:
            with readable(part, self._settings.directory) as here, self._reader() as reader:
                reader.open(name, here.table)
                found += reader.sample(name, count - len(found))
            if len(found) >= count:
                break
        return found

    def stage(self, name: str, query: str, source: str) -> None:
        """See `Engine.stage`."""
        opened = self._tasks[source]
        task = ReadTask(query, source, opened.parts, self._schema(source, query), opened.memory_bytes, opened.directory)
        staged = self._persist(self._load(task))
        rejects = staged.where(f"{REJECTS} IS NOT NULL").select(REJECTS)
        self._rejects = [RejectsOfPart.from_json(row[0]) for row in self._watched(rejects.collect)]
        staged.where(f"{REJECTS} IS NULL").drop(REJECTS).createOrReplaceTempView(name)

    def rejects(self, name: str) -> tuple[int, list[Reject]]:
        """See `Engine.rejects`."""
        files = {file.uri: file for part in self._tasks[name].parts for file in part.table.files}
        order = {uri: position for position, uri in enumerate(files)}
        found: list[Reject] = []
        for part in sorted(self._rejects, key=lambda each: (order[each.uri], each.start)):
            if len(found) >= _SHOWN_REJECTS:
                break
            before = line_at(files[part.uri], part.start + 1) - 1 if part.start else 0
            for each in part.first:
                line = None if each.line is None else each.line + before - part.added_lines
                found.append(Reject(each.file, line, each.column, each.reason))
        return sum(part.count for part in self._rejects), found[:_SHOWN_REJECTS]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """See `Engine.rows`."""
        table = self._watched(self._session.sql(query).toArrow)
        return list(zip(*(column.to_pylist() for column in table.columns), strict=True))

    def keep(self, name: str, query: str) -> None:
        """See `Engine.keep`."""
        kept = self._persist(self._session.sql(query))
        self._watched(kept.count)
        kept.createOrReplaceTempView(name)

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
        """See `Engine.write`. Digests are spread evenly: equal shares of their range are equal shares of the rows."""
        ((rows,),) = self.rows(f"SELECT count(*) FROM {relation}")
        parts = max(1, -(-rows * _row_bytes(schema) // SHARD_BYTES))
        digits = f"CAST(conv(substr({order[0]}, 1, 4), 16, 10) AS BIGINT)"
        keys = ", ".join(f"{column} AS order_{i}" for i, column in enumerate(order))
        query = f"SELECT {columns}, {keys}, CAST({digits} * {parts} DIV {_BINS} AS INT) AS part FROM {relation}"
        ordered = (
            self._session.sql(query)
            .repartitionById(parts, "part")
            .sortWithinPartitions(*(f"order_{i}" for i in range(len(order))))
            .drop("part", *(f"order_{i}" for i in range(len(order))))
        )
        writer = ShardWriter(self._settings.scratch or str(output), schema, num_classes)
        written = self._watched(ordered.mapInArrow(writer, ShardWriter.REPLY).collect)
        taken, self._origins = collect_shards([row.asDict() for row in written], writer.place, output, num_classes)
        return taken

    def close(self) -> None:
        """Cancel what runs, and free the room of what was kept."""
        self._session.sparkContext.cancelAllJobs()
        for kept in self._kept:
            kept.unpersist()
        if self._settings.scratch and self._origins:
            clear(self._settings.scratch)

    def _task(self, name: str, table: RawTable, query: str) -> ReadTask:
        context = self._session.sparkContext

        def count_quotes(ranges: Sequence[tuple[str, int, int]]) -> Any:
            return context.parallelize(ranges, len(ranges)).map(quotes_of_range).collect()

        parts = tuple(plan_parts(table, self._settings.slots, count_quotes))
        directory = None if self._settings.scratch else str(self._settings.directory)
        self._tasks[name] = ReadTask(query, name, parts, None, self._settings.task_memory_bytes, directory)
        schema = self._schema(name, query)
        return ReadTask(query, name, parts, schema, self._settings.task_memory_bytes, directory)

    def _schema(self, source: str, query: str) -> pa.Schema:
        """What a query over an opened relation gives, and the column of rejects."""
        import pyarrow as pa

        with readable(self._tasks[source].parts[0], self._settings.directory) as here, self._reader() as reader:
            reader.open(source, here.table)
            return reader.schema(query).append(pa.field(REJECTS, pa.string()))

    def _load(self, task: ReadTask) -> DataFrame:
        from pyspark.sql.pandas.types import from_arrow_schema

        schema = from_arrow_schema(task.schema)
        return self._session.read.format(NAME).schema(schema).option("task", task.as_option()).load()

    @contextmanager
    def _reader(self) -> Iterator[DuckDBEngine]:
        with tempfile.TemporaryDirectory(dir=self._settings.directory) as directory:
            reader = DuckDBEngine(Path(directory), memory_limit_bytes=self._settings.task_memory_bytes, threads=1)
            try:
                yield reader
            finally:
                reader.close()

    def _persist(self, frame: DataFrame) -> DataFrame:
        from pyspark import StorageLevel

        self._kept.append(frame.persist(StorageLevel.DISK_ONLY))
        return frame

    def _watched(self, work: Callable[[], _Result]) -> _Result:
        """Do work with Spark, and tell its progress by stage and task."""
        finished = threading.Event()
        status = self._session.sparkContext.statusTracker()

        def poll(tracker: Tracker) -> None:
            while not finished.wait(_POLL_S):
                for stage in status.getActiveStageIds():
                    found = status.getStageInfo(stage)
                    if found is not None and found.numTasks:
                        done = 100 * found.numCompletedTasks / found.numTasks
                        tracker.update(done, stage=stage, tasks=found.numTasks, finished=found.numCompletedTasks)

        thread = threading.Thread(target=poll, args=(self._tracker,), daemon=True)
        if self._tracker is not None:
            thread.start()
        try:
            return work()
        except PySparkException as error:
            raise SparkTaskError(_cause(str(error))) from error
        finally:
            finished.set()
            if thread.is_alive():
                thread.join()


def _cause(text: str) -> str:
    """The last line of the traceback of a task in Python, or the first line of what Spark says."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    raised = [line for line in lines if _RAISED.match(line)]
    return (raised[-1] if raised else lines[0])[:300]


def _row_bytes(schema: pa.Schema) -> int:
    import pyarrow as pa

    return sum(_TEXT_BYTES if pa.types.is_string(field.type) else 8 for field in schema)
