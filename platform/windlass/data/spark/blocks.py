"""Rows in blocks: Spark keeps and moves them as bytes, and never turns a value into one of its own.

A block holds rows of one bucket, a share of the range of the digests. These are spread evenly, so equal shares of their
range are equal shares of the rows; and a bucket has all rows of one digest.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

BUCKET = "bucket"
BLOCK = "block"
_DIGITS = 4
_BINS = 16**_DIGITS
MOST_BUCKETS = _BINS
_COMPRESSION = "lz4"
_VALUE = re.compile(r"\bc[0-9]+\b")


def is_value(name: str) -> bool:
    """Whether a column of the program holds values, and is not one by which rows are checked or divided."""
    return _VALUE.fullmatch(name) is not None


def values_in(query: str) -> set[str]:
    """The columns of values that a query names: it can need no other."""
    return set(_VALUE.findall(query))


def bucket_of(digest: str, buckets: int) -> str:
    """DuckDB's SQL of a row's bucket; buckets follow each other as their digests do."""
    return f"CAST(conv(substr({digest}, 1, {_DIGITS}), 16, 10) * {buckets} // {_BINS} AS INT)"


def pack(batches: Sequence[pa.RecordBatch]) -> Iterator[tuple[int, bytes]]:
    """Rows that have a column `bucket`, the last, as one block for each bucket."""
    import numpy as np
    import pyarrow as pa

    table = pa.Table.from_batches(batches).combine_chunks()
    bucket_N = table.column(BUCKET).to_numpy()
    order_N = np.argsort(bucket_N, kind="stable")
    ordered = table.drop_columns([BUCKET]).take(pa.array(order_N))
    found_B, starts_B = np.unique(bucket_N[order_N], return_index=True)
    for bucket, (start, end) in zip(found_B, itertools.pairwise([*starts_B, len(order_N)]), strict=True):
        yield int(bucket), _bytes(ordered.slice(start, end - start))


def unpack(batches: Iterable[pa.RecordBatch], columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of blocks, which are the first column of `batches`.

    Args:
        columns: which of theirs, in this order; None: all.
    """
    import pyarrow as pa

    for batch in batches:
        for block in batch.column(0):
            with pa.ipc.open_stream(block.as_buffer()) as rows:
                for found in rows:
                    yield found if columns is None else found.select(columns)


@dataclass(frozen=True)
class Unpack:
    """A task of `mapInArrow` over blocks."""

    columns: tuple[str, ...]

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return unpack(batches, self.columns)


def _bytes(table: pa.Table) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=_COMPRESSION)) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
