"""A table cut into parts, one for each task: byte ranges, row groups, or whole files."""

from __future__ import annotations

import functools
import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from windlass.data.sources import open_source, s3_filesystem
from windlass.data.spark.blocks import MOST_BUCKETS
from windlass.data.tables import RawTable, TableFile

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset

MOST_PART_BYTES = 32 << 20
LEAST_PART_BYTES = 8 << 20
_CHUNK_BYTES = 8 << 20
"""Each is a request of its own where a file lies in an object store."""


@dataclass(frozen=True)
class Part:
    """What one task reads: a table of one file at most, or a piece of it."""

    table: RawTable
    start: int = 0
    end: int | None = None
    """Bytes of the lines that begin from `start` on, before `end`; None: the whole file."""
    row_groups: tuple[int, ...] = ()
    """Of a Parquet file; none: all of it."""


@dataclass(frozen=True)
class Parts:
    """All parts of a table, in the order of its rows."""

    parts: tuple[Part, ...]
    buckets: int
    """Into how many its rows are divided afterwards, by their digests: about as much is in each as in a part."""


@dataclass(frozen=True)
class QuotesOfRange:
    """The quotes of one byte range of a file, line by line."""

    first: int
    """Before the first line break."""
    are_even: bool
    """Between each two line breaks."""
    last: int
    """After the last line break."""

    def followed_by(self, other: QuotesOfRange) -> QuotesOfRange:
        """Of both ranges as one."""
        are_even = self.are_even and other.are_even and (self.last + other.first) % 2 == 0
        return QuotesOfRange(self.first, are_even, other.last)


def plan_parts(
    table: RawTable,
    slots: int,
    count_quotes: Callable[[Sequence[tuple[str, int, int]]], list[QuotesOfRange]],
) -> Parts:
    """Divide a table's files, in their order.

    Args:
        slots: tasks that run at once.
        count_quotes: `quotes_of_range` of several (URI, start, end), wherever it runs.
    """
    if table.kind == "memory":
        return Parts((Part(table),), 1)
    sizes = [_size_bytes(file.uri) for file in table.files]
    part_bytes = min(MOST_PART_BYTES, max(LEAST_PART_BYTES, sum(sizes) // (3 * slots)))
    parts: list[Part] = []
    for file, size_bytes in zip(table.files, sizes, strict=True):
        parts += _parts_of_file(replace(table, files=(file,)), file, size_bytes, part_bytes, count_quotes)
    # a file may be one part however large it is, and a table may be of many small files
    return Parts(tuple(parts), min(MOST_BUCKETS, max(1, sum(sizes) // part_bytes)))


def quotes_of_range(place: tuple[str, int, int]) -> QuotesOfRange:
    """Count the quotes of the bytes `start` to `end` of a file."""
    uri, start, end = place
    with open_source(uri) as stream:
        stream.seek(start)
        chunks = (stream.read(min(_CHUNK_BYTES, end - first)) for first in range(start, end, _CHUNK_BYTES))
        return functools.reduce(QuotesOfRange.followed_by, map(_quotes_of, chunks))


def _quotes_of(data: bytes) -> QuotesOfRange:
    import numpy as np

    if b'"' not in data:
        return QuotesOfRange(0, True, 0)
    characters_N = np.frombuffer(data, np.uint8)
    quotes, breaks = np.flatnonzero(characters_N == ord('"')), np.flatnonzero(characters_N == ord("\n"))
    if len(breaks) == 0:
        return QuotesOfRange(len(quotes), False, 0)
    before = np.searchsorted(quotes, breaks)
    return QuotesOfRange(int(before[0]), bool(np.all((before - before[0]) % 2 == 0)), int(len(quotes) - before[-1]))


def breaks_end_rows(ranges: Iterable[QuotesOfRange]) -> bool:
    """Whether no line break of a file stands inside quotes: then each line has an even number of them."""
    whole = functools.reduce(QuotesOfRange.followed_by, ranges)
    return whole.first % 2 == 0 and whole.are_even and whole.last % 2 == 0


@dataclass(frozen=True)
class ReadablePart:
    """A part as DuckDB can read it, and where its lines lie in the file."""

    table: RawTable
    start: int = 0
    """The byte at which its first line begins."""
    added_lines: int = 0
    """Put before it: the header, which only the first part of a file has."""


@contextmanager
def readable(part: Part, directory: str | Path | None) -> Iterator[ReadablePart]:
    """Bring what a part needs to a disk while it is read: into `directory`; None: where the system has its own."""
    table = part.table
    if part.row_groups:
        yield ReadablePart(replace(table, kind="memory", files=(), memory=_row_groups(table.files[0], part.row_groups)))
        return
    is_whole = part.end is None and part.start == 0
    if not table.files or (is_whole and not table.files[0].uri.startswith("s3://")):
        yield ReadablePart(table)
        return
    (file,) = table.files
    with tempfile.TemporaryDirectory(prefix="part-", dir=directory) as room:
        # the suffix says whether it is compressed
        path = Path(room, Path(file.uri).name)
        header = _header(table, file) if part.start else b""
        with open_source(file.uri) as source, path.open("wb") as target:
            target.write(header)
            start = _copy_lines(source, target, part)
        local = replace(table, files=(replace(file, uri=str(path)),))
        yield ReadablePart(local, start, header.count(b"\n"))


def _parts_of_file(
    table: RawTable,
    file: TableFile,
    size_bytes: int,
    part_bytes: int,
    count_quotes: Callable[[Sequence[tuple[str, int, int]]], list[QuotesOfRange]],
) -> list[Part]:
    if table.kind == "parquet":
        return _parts_of_parquet(table, file, size_bytes, part_bytes)
    if size_bytes <= part_bytes or file.uri.lower().endswith(".gz"):
        return [Part(table)]
    bounds = [*range(0, size_bytes, part_bytes), size_bytes]
    ranges = [(file.uri, start, end) for start, end in itertools.pairwise(bounds)]
    if table.kind == "csv" and not breaks_end_rows(count_quotes(ranges)):
        return [Part(table)]
    return [Part(table, start, end) for _, start, end in ranges]


def _parts_of_parquet(table: RawTable, file: TableFile, size_bytes: int, part_bytes: int) -> list[Part]:
    import pyarrow.parquet as pq

    if size_bytes <= part_bytes:
        return [Part(table)]
    with open_source(file.uri) as stream:
        metadata = pq.read_metadata(stream)
    groups, parts, taken_bytes = list[int](), list[Part](), 0
    share = size_bytes / max(1, sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)))
    for i in range(metadata.num_row_groups):
        groups.append(i)
        taken_bytes += metadata.row_group(i).total_byte_size
        if taken_bytes * share >= part_bytes or i == metadata.num_row_groups - 1:
            parts.append(Part(table, row_groups=tuple(groups)))
            groups, taken_bytes = [], 0
    return parts


def _row_groups(file: TableFile, row_groups: Sequence[int]) -> Dataset:
    import pyarrow.dataset as ds
    from pyarrow.fs import LocalFileSystem

    is_remote = file.uri.startswith("s3://")
    filesystem = s3_filesystem() if is_remote else LocalFileSystem()
    whole = ds.dataset(file.uri.removeprefix("s3://"), format="parquet", filesystem=filesystem)
    (fragment,) = whole.get_fragments()
    pieces = [fragment.subset(row_group_ids=list(row_groups))]
    return ds.FileSystemDataset(pieces, whole.schema, ds.ParquetFileFormat(), filesystem)


def _copy_lines(source: IO[bytes], target: IO[bytes], part: Part) -> int:
    """Copy the lines that begin in a part, and return where the first of them begins."""
    if part.end is None:
        shutil.copyfileobj(source, target, _CHUNK_BYTES)
        return 0
    start = 0
    if part.start:
        source.seek(part.start - 1)
        source.readline()
        start = source.tell()
    left = part.end - start
    while left > 0:
        chunk = source.read(min(left, _CHUNK_BYTES))
        target.write(chunk)
        left -= len(chunk)
    if left == 0 and start < part.end:
        # its last line ends with the break that the next part looks for
        source.seek(part.end - 1)
        last = source.read(1)
        if last != b"\n":
            target.write(source.readline())
    return start


def _header(table: RawTable, file: TableFile) -> bytes:
    if table.kind != "csv":
        return b""
    return (file.delimiter.join(f"f{i}" for i in range(len(file.names))) + "\n").encode()


def _size_bytes(uri: str) -> int:
    if uri.startswith("s3://"):
        info: Any = s3_filesystem().get_file_info(uri.removeprefix("s3://"))
        return int(info.size)
    return Path(uri).stat().st_size
