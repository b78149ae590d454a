"""What Spark's tasks do first: read a part of the table, and hand its rows over in blocks.

Within a task DuckDB reads the part, as it reads the whole on one machine, and computes the query of one row each. So
what a file means (quotes, numbers as text, times, a line that is none) is decided by one reader, whatever the engine.
"""

# ruff: noqa: S608 - no text of a user enters SQL other than as a quoted literal

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from windlass.data.duckdb_engine import DuckDBEngine, open_duckdb
from windlass.data.engine import Reject
from windlass.data.spark.blocks import BUCKET, bucket_of, pack
from windlass.data.spark.parts import Part, readable
from windlass.data.totals import Found, Totals, add_up

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_ROWS = 20_000
_BUFFERED_BYTES = 16 << 20


@dataclass(frozen=True)
class ReportOfPart:
    """Lines of a part that are no rows, counted from its own first line, and the totals of its rows."""

    uri: str
    start: int
    added_lines: int
    count: int
    first: list[Reject]
    totals: list[Found]


@dataclass(frozen=True)
class StageParts:
    """A task for each part's number, in flat memory.

    It gives blocks of whole rows by their bucket, and at last the report of the part, as of one bucket more.
    """

    query: str
    """Over the relation `source`, with the column `digest`."""
    source: str
    totals: tuple[Totals, ...]
    parts: tuple[Part, ...]
    buckets: int
    memory_bytes: int
    directory: str | None
    """For copies and spilled data, if all tasks see the driver's disk; None: the machine's own."""

    def __call__(self, number: int) -> Iterator[tuple[int, bytes | ReportOfPart]]:
        part = self.parts[number]
        with (
            readable(part, self.directory) as found,
            open_duckdb(self.directory, memory_limit_bytes=self.memory_bytes, threads=1) as engine,
        ):
            engine.open(self.source, found.table)
            totals = add_up(self.totals, [])
            for batches in self._buffered(engine):
                totals = add_up(self.totals, [totals, engine.totals_of(batches, self.totals)])
                yield from pack(batches)
            count, first = engine.rejects(self.source)
            uri = part.table.files[0].uri if part.table.files else ""
            yield self.buckets, ReportOfPart(uri, found.start, found.added_lines, count, first, totals)

    def _buffered(self, engine: DuckDBEngine) -> Iterator[list[pa.RecordBatch]]:
        query = f"SELECT *, {bucket_of('digest', self.buckets)} AS {BUCKET} FROM ({self.query}) AS rows_of_part"
        buffered: list[pa.RecordBatch] = []
        for batch in engine.stream(query, _BATCH_ROWS):
            buffered.append(batch)
            if sum(each.nbytes for each in buffered) >= _BUFFERED_BYTES:
                yield buffered
                buffered = []
        if buffered:
            yield buffered
