"""Reads parts of tables in Spark's tasks: a Python data source that hands Arrow batches over.

Within a task DuckDB reads the part, as it reads the whole on one machine, and computes the query of one row each. So
what a file means (quotes, numbers as text, times, a line that is none) is decided by one reader, whatever the engine.
"""

from __future__ import annotations

import base64
import json
import pickle
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition
from pyspark.sql.types import StructType

from windlass.data.duckdb_engine import DuckDBEngine
from windlass.data.engine import Reject
from windlass.data.spark.parts import Part, readable

if TYPE_CHECKING:
    import pyarrow as pa

NAME = "windlass"
REJECTS = "rejects"
"""A column of JSON: null in a row of the table; else the row says which lines of a part were none."""
_TASK = "task"
_BATCH_ROWS = 20_000


@dataclass(frozen=True)
class ReadTask:
    """What every task does with its part."""

    query: str
    """Over the relation `source`."""
    source: str
    parts: tuple[Part, ...]
    schema: pa.Schema
    memory_bytes: int
    directory: str | None
    """For copies and spilled data, if all tasks see the driver's disk; None: the machine's own."""

    def as_option(self) -> str:
        return base64.b64encode(pickle.dumps(self)).decode()


@dataclass(frozen=True)
class RejectsOfPart:
    """Lines of a part that are no rows, counted from its own first line."""

    uri: str
    start: int
    added_lines: int
    count: int
    first: list[Reject]

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> RejectsOfPart:
        fields = json.loads(text)
        return cls(**{**fields, "first": [Reject(**each) for each in fields["first"]]})


class TableSource(DataSource):  # type: ignore[misc]
    """See the module."""

    @classmethod
    def name(cls) -> str:
        return NAME

    def reader(self, schema: StructType) -> TableReader:  # noqa: ARG002 - Spark's own signature
        # the option is written by this package's own driver, and reaches its tasks through Spark's authenticated RPC
        return TableReader(pickle.loads(base64.b64decode(self.options[_TASK])))  # noqa: S301


class TableReader(DataSourceReader):  # type: ignore[misc]
    def __init__(self, task: ReadTask) -> None:
        self._task = task

    def partitions(self) -> list[InputPartition]:
        return [InputPartition(index) for index in range(len(self._task.parts))]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        return read_part(self._task, self._task.parts[partition.value])


def read_part(task: ReadTask, part: Part) -> Iterator[pa.RecordBatch]:
    """The rows of one part, and at the end one row of `REJECTS` if it has lines that are none."""
    import pyarrow as pa

    with (
        tempfile.TemporaryDirectory(prefix="task-", dir=task.directory) as directory,
        readable(part, Path(directory)) as found,
    ):
        engine = DuckDBEngine(Path(directory), memory_limit_bytes=task.memory_bytes, threads=1)
        try:
            engine.open(task.source, found.table)
            for batch in engine.stream(task.query, _BATCH_ROWS):
                yield _batch(task.schema, batch.columns, pa.nulls(batch.num_rows, pa.string()))
            count, first = engine.rejects(task.source)
            if count:
                uri = part.table.files[0].uri
                rejects = RejectsOfPart(uri, found.start, found.added_lines, count, first).to_json()
                empty = [pa.nulls(1, field.type) for field in list(task.schema)[:-1]]
                yield _batch(task.schema, empty, pa.array([rejects], pa.string()))
        finally:
            engine.close()


def _batch(schema: pa.Schema, columns: list[Any], rejects: Any) -> pa.RecordBatch:
    import pyarrow as pa

    typed = [column.cast(field.type) for column, field in zip(columns, schema, strict=False)]
    return pa.RecordBatch.from_arrays([*typed, rejects], schema=schema)
