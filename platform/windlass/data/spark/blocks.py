"""Rows in blocks: Spark keeps and moves them as bytes, and never turns a value into one of its own.

A block holds rows of one bucket, a share of the range of the digests. These are spread evenly, so equal shares of their
range are equal shares of the rows; and a bucket has all rows of one digest.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

BUCKET = "bucket"
MOST_BUCKETS = 1024
"""A task's rows are divided among them, and blocks of a few rows would be more schema than rows."""
_DIGITS = 4
_BINS = 16**_DIGITS
_COMPRESSION = "lz4"
_WORD = re.compile(r"\w+")


def named_in(names: Sequence[str], *queries: str) -> tuple[str, ...]:
    """Those columns of a relation that queries may read: others' names do not stand in them."""
    words = {word for query in queries for word in _WORD.findall(query)}
    return tuple(name for name in names if name in words)


def bucket_of(digest: str, buckets: int) -> str:
    """DuckDB's SQL of a row's bucket; buckets follow each other as their digests do."""
    return f"CAST(CAST('0x' || substr({digest}, 1, {_DIGITS}) AS BIGINT) * {buckets} // {_BINS} AS INT)"


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


def unpack(blocks: Iterable[bytes], schema: pa.Schema, columns: Sequence[str]) -> pa.RecordBatchReader:
    """The rows of blocks, of which no more than some columns is read.

    Args:
        schema: of the blocks.
        columns: in the order of the schema.
    """
    import pyarrow as pa

    fields = [schema.get_field_index(name) for name in columns]
    options = pa.ipc.IpcReadOptions(included_fields=fields)

    def batches() -> Iterator[pa.RecordBatch]:
        for block in blocks:
            with pa.ipc.open_stream(block, options=options) as rows:
                yield from rows

    return pa.RecordBatchReader.from_batches(pa.schema([schema.field(index) for index in fields]), batches())


def _bytes(table: pa.Table) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=_COMPRESSION)) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
