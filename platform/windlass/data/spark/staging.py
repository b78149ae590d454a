"""What Spark's tasks do first: read a part of the table, and hand its rows over as keys and as blocks.

Within a task DuckDB reads the part, as it reads the whole on one machine, and computes the query of one row each. So
what a file means (quotes, numbers as text, times, a line that is none) is decided by one reader, whatever the engine.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windlass.data.duckdb_engine import DuckDBEngine
from windlass.data.engine import Reject
from windlass.data.spark.blocks import BLOCK, BUCKET, bucket_of, is_value, pack
from windlass.data.spark.parts import Part, readable
from windlass.data.totals import Summed, Totals

if TYPE_CHECKING:
    import pyarrow as pa

REPORT = "report"
"""A column of JSON: null in a row of the table; else the row says what a part held."""
_BATCH_ROWS = 20_000
_BUFFERED_BYTES = 32 << 20


@dataclass(frozen=True)
class ReportOfPart:
    """Lines of a part that are no rows, counted from its own first line, and the totals of its rows."""

    uri: str
    start: int
    added_lines: int
    count: int
    first: list[Reject]
    totals: list[tuple[Any, ...]] | None

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ReportOfPart:
        fields = json.loads(text)
        return cls(**{**fields, "first": [Reject(**each) for each in fields["first"]]})


@dataclass(frozen=True)
class StageParts:
    """A task of `mapInArrow` over the parts' numbers, in flat memory.

    A row of its result is the key of one row (its columns but the values c0, c1, …), or a block of whole rows of one
    bucket, or the report of a part; the columns of the other two are null.
    """

    query: str
    """Over the relation `source`, with the column `digest`."""
    source: str
    totals: Totals
    parts: tuple[Part, ...]
    schema: pa.Schema
    """Of the query."""
    buckets: int
    memory_bytes: int
    directory: str | None
    """For copies and spilled data, if all tasks see the driver's disk; None: the machine's own."""

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(name for name in self.schema.names if not is_value(name))

    @property
    def reply(self) -> pa.Schema:
        import pyarrow as pa

        keys = [self.schema.field(name) for name in self.keys]
        return pa.schema([*keys, (REPORT, pa.string()), (BUCKET, pa.int32()), (BLOCK, pa.binary())])

    def __call__(self, numbers: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in numbers:
            for number in batch.column(0).to_pylist():
                yield from self._read(self.parts[number])

    def _read(self, part: Part) -> Iterator[pa.RecordBatch]:
        with (
            tempfile.TemporaryDirectory(prefix="task-", dir=self.directory) as directory,
            readable(part, Path(directory)) as found,
        ):
            engine = DuckDBEngine(Path(directory), memory_limit_bytes=self.memory_bytes, threads=1)
            try:
                engine.open(self.source, found.table)
                summed = Summed(self.totals)
                yield from self._rows(engine, summed)
                count, first = engine.rejects(self.source)
                uri = part.table.files[0].uri if part.table.files else ""
                report = ReportOfPart(uri, found.start, found.added_lines, count, first, summed.rows)
                yield self._batch({REPORT: [report.to_json()]})
            finally:
                engine.close()

    def _rows(self, engine: DuckDBEngine, summed: Summed) -> Iterator[pa.RecordBatch]:
        query = f"SELECT *, {bucket_of('digest', self.buckets)} AS {BUCKET} FROM ({self.query}) AS rows_of_part"  # noqa: S608
        buffered: list[pa.RecordBatch] = []
        for batch in engine.stream(query, _BATCH_ROWS):
            yield self._batch({name: batch.column(name) for name in self.keys})
            buffered.append(batch)
            if sum(each.nbytes for each in buffered) >= _BUFFERED_BYTES:
                summed.add(engine.totals_of(buffered, self.totals))
                yield self._blocks(buffered)
                buffered.clear()
        if buffered:
            summed.add(engine.totals_of(buffered, self.totals))
            yield self._blocks(buffered)

    def _blocks(self, batches: list[pa.RecordBatch]) -> pa.RecordBatch:
        buckets, blocks = zip(*pack(batches), strict=True)
        return self._batch({BUCKET: buckets, BLOCK: blocks})

    def _batch(self, columns: dict[str, Any]) -> pa.RecordBatch:
        """A batch in which all other columns are null."""
        import pyarrow as pa

        rows = len(next(iter(columns.values())))
        arrays = []
        for field in self.reply:
            values = columns.get(field.name)
            if isinstance(values, pa.Array):
                arrays.append(values.cast(field.type))
            else:
                arrays.append(pa.nulls(rows, field.type) if values is None else pa.array(values, field.type))
        return pa.RecordBatch.from_arrays(arrays, schema=self.reply)
