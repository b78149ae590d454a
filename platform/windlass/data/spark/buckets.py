"""The rows of one bucket, which a task reads from its blocks as a relation of DuckDB's.

A bucket has all rows of its digests, so what other rows of a digest are needed for is computed here as it is over a
whole table on one machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from windlass.data.duckdb_engine import DuckDBEngine, open_duckdb
from windlass.data.spark.blocks import named_in, unpack
from windlass.data.totals import Found, Totals

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Buckets:
    """How a task reads one of them."""

    staged: str
    """The relation of its rows."""
    schema: pa.Schema
    kept: Mapping[str, str]
    """Queries by the names under which others ask for them, in this order."""
    memory_bytes: int
    directory: str | None
    """For what does not fit into memory; None: the machine's own."""

    @contextmanager
    def read(self, blocks: Iterable[tuple[int, bytes]], *queries: str) -> Iterator[DuckDBEngine]:
        """An engine that has the rows, of which no more is read than the queries name: a `*` names nothing."""
        columns = named_in(self.schema.names, *self.kept.values(), *queries) or self.schema.names[:1]
        with open_duckdb(self.directory, memory_limit_bytes=self.memory_bytes, threads=1) as engine:
            engine.load(self.staged, unpack((block for _, block in blocks), self.schema, columns))
            for name, query in self.kept.items():
                engine.keep(name, query)
            yield engine


@dataclass(frozen=True)
class SumBucket:
    """A task that makes totals of the rows of its bucket."""

    buckets: Buckets
    relation: str
    totals: tuple[Totals, ...]

    def __call__(self, blocks: Iterable[tuple[int, bytes]]) -> Iterator[list[Found]]:
        queries = (each.query(self.relation) for each in self.totals)
        with self.buckets.read(blocks, *queries) as engine:
            yield engine.totals(self.relation, self.totals)
