"""How the files of a table are laid out: their columns by name, read before any engine sees them."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Literal

from windlass.data.errors import BadFileError
from windlass.data.sources import ResolvedSource, SourceFile, open_source, s3_filesystem

if TYPE_CHECKING:
    import pyarrow as pa

Stored = Literal["text", "number", "boolean", "other"]
"""How a file stores a column: text of any meaning, numbers, booleans, or what becomes text (dates, times)."""

GUESS_ROWS = 10_000
_DELIMITERS = (",", ";", "\t", "|")
_MAX_HEADER_BYTES = 1 << 20
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class RawColumn:
    name: str
    stored: Stored


@dataclass(frozen=True)
class TableFile:
    """One file; `names` are its own columns in its own order."""

    name: str
    uri: str
    names: tuple[str, ...]
    delimiter: str = ","


@dataclass(frozen=True)
class RawTable:
    """A table as it lies in its files, or, of scikit-learn's, in memory."""

    kind: Literal["csv", "jsonl", "parquet", "memory"]
    columns: tuple[RawColumn, ...]
    files: tuple[TableFile, ...] = ()
    memory: pa.Table | None = None
    nested: tuple[str, ...] = ()
    """Columns of lists or structs, which no transform reads."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def place(self) -> str:
        """What to call the source in a message."""
        return self.files[0].name if self.files else "the source"


def read_layout(source: ResolvedSource) -> RawTable:
    """Read the headers or schemas of a table's files.

    Raises:
        BadFileError: a file is empty, is not UTF-8, has a header that cannot be used, or differs from the first file.
    """
    if source.kind == "sklearn":
        assert source.dataset is not None
        return _sklearn_table(source.dataset)
    for file in source.files:
        if file.size_bytes == 0:
            raise BadFileError(file.name, "the file is empty; a table needs a header and rows")
    if source.kind == "parquet":
        return _parquet_layout(source.files)
    if source.kind == "jsonl":
        names = tuple(dict.fromkeys(itertools.chain.from_iterable(_keys(file) for file in source.files)))
        files = tuple(TableFile(file.name, file.uri, names) for file in source.files)
        return RawTable("jsonl", tuple(RawColumn(name, "text") for name in names), files)
    assert source.kind == "csv"
    files = tuple(_csv_header(file) for file in source.files)
    _check_same_columns(files)
    return RawTable("csv", tuple(RawColumn(name, "text") for name in files[0].names), files)


def records(table: RawTable, file: TableFile) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of one file with the line on which each begins, read plainly: for messages, not for work."""
    if table.kind == "parquet":
        yield from _parquet_records(file)
        return
    with open_bytes(file.uri) as stream, io.TextIOWrapper(stream, "utf-8-sig", "replace", newline="") as text:
        if table.kind == "jsonl":
            for line, content in enumerate(text, 1):
                row = _json_object(content)
                yield line, {} if row is None else {key: _as_text(value) for key, value in row.items()}
            return
        reader = csv.reader(text, delimiter=file.delimiter)
        next(reader)
        line = reader.line_num + 1
        for values in reader:
            if len(values) == len(file.names):
                yield line, dict(zip(file.names, values, strict=True))
            line = reader.line_num + 1


@contextmanager
def open_bytes(uri: str) -> Iterator[IO[bytes]]:
    """A file's bytes, decompressed if its name ends with .gz."""
    with open_source(uri) as stream:
        if not uri.lower().endswith(".gz"):
            yield stream
            return
        with gzip.GzipFile(fileobj=stream) as plain:
            yield plain  # type: ignore[misc]


def _csv_header(file: SourceFile) -> TableFile:
    with open_bytes(file.uri) as stream:
        head = stream.read(_MAX_HEADER_BYTES)
    if head.startswith(_UTF16_MARKS):
        raise BadFileError(file.name, "is UTF-16, not UTF-8; save it as UTF-8")
    lines = io.StringIO(head.decode("utf-8-sig", "replace"), newline="")
    first = lines.readline().rstrip("\r\n")
    if not first.strip():
        raise BadFileError(file.name, "row 1: the header is empty; the first row has to name the columns")
    delimiter = max(_DELIMITERS, key=lambda candidate: len(next(csv.reader([first], delimiter=candidate))))
    lines.seek(0)
    names = tuple(name.strip() for name in next(csv.reader(lines, delimiter=delimiter)))
    for position, name in enumerate(names, 1):
        if "\N{REPLACEMENT CHARACTER}" in name:
            raise BadFileError(file.name, f"row 1, column {position}: not UTF-8; save the file as UTF-8")
    named = tuple(name or f"column_{position}" for position, name in enumerate(names, 1))
    _check_header(file.name, named)
    return TableFile(file.name, file.uri, named, delimiter)


def _check_header(file: str, names: Sequence[str]) -> None:
    for position, name in enumerate(names):
        if name in names[:position]:
            first = names.index(name) + 1
            raise BadFileError(
                file, f"row 1: column {name!r} stands twice, as column {first} and {position + 1}; rename one"
            )
    if all(_is_number(name) for name in names):
        raise BadFileError(file, "row 1: the header is all numbers, so it looks like data; name the columns in row 1")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_same_columns(files: Sequence[TableFile]) -> None:
    first = files[0]
    for file in files[1:]:
        missing = sorted(set(first.names) - set(file.names))
        added = sorted(set(file.names) - set(first.names))
        if missing or added:
            what = f"lacks column {missing[0]!r}, which" if missing else f"has column {added[0]!r}, which not"
            raise BadFileError(file.name, f"{what} {first.name} has; the files of one source need the same columns")


def _keys(file: SourceFile) -> list[str]:
    keys: dict[str, None] = {}
    with open_bytes(file.uri) as stream:
        for line, content in enumerate(itertools.islice(stream, GUESS_ROWS), 1):
            row = _json_object(content.removeprefix(b"\xef\xbb\xbf"))
            if row is None and line == 1:
                raise BadFileError(file.name, "row 1: is no JSON object; JSON Lines has one object a line")
            keys |= dict.fromkeys(row or {})
    if not keys:
        raise BadFileError(file.name, "has no columns; each line is an object whose keys are the columns")
    return list(keys)


def _json_object(content: str | bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value)


def _parquet_layout(sources: Sequence[SourceFile]) -> RawTable:
    schemas = [_parquet_schema(file) for file in sources]
    files = tuple(
        TableFile(file.name, file.uri, tuple(schema.names)) for file, schema in zip(sources, schemas, strict=True)
    )
    for file in files:
        _check_header(file.name, [name.lower() for name in file.names])
    _check_same_columns(files)
    return _layout_of("parquet", schemas[0], files)


def _layout_of(
    kind: Literal["parquet", "memory"], schema: pa.Schema, files: tuple[TableFile, ...] = (), memory: Any = None
) -> RawTable:
    import pyarrow.types as types

    nested = tuple(field.name for field in schema if types.is_nested(field.type))
    columns = tuple(RawColumn(field.name, _stored(field.type)) for field in schema if field.name not in nested)
    return RawTable(kind, columns, files, memory, nested)


def _stored(type_: Any) -> Stored:
    import pyarrow.types as types

    if types.is_dictionary(type_):
        return _stored(type_.value_type)
    if types.is_integer(type_) or types.is_floating(type_) or types.is_decimal(type_):
        return "number"
    if types.is_boolean(type_):
        return "boolean"
    return "text" if types.is_string(type_) or types.is_large_string(type_) else "other"


def _parquet_schema(file: SourceFile) -> pa.Schema:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if file.uri.startswith("s3://"):
            return pq.read_schema(file.uri.removeprefix("s3://"), filesystem=s3_filesystem())
        return pq.read_schema(file.uri)
    except pa.ArrowInvalid as error:
        raise BadFileError(file.name, f"is not Parquet: {error}") from error


def _parquet_records(file: TableFile) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow.parquet as pq

    row = 0
    with open_source(file.uri) as stream:
        for batch in pq.ParquetFile(stream).iter_batches(GUESS_ROWS):
            for values in batch.to_pylist():
                row += 1
                yield row, values


def _sklearn_table(name: str) -> RawTable:
    import pyarrow as pa
    from sklearn import datasets

    loaded = getattr(datasets, f"load_{name}")()
    arrays = {str(column): pa.array(loaded.data[:, i]) for i, column in enumerate(loaded.feature_names)}
    names = loaded.get("target_names")
    target = pa.array(loaded.target if names is None else [str(names[index]) for index in loaded.target])
    table = pa.table({**arrays, "target": target})
    return _layout_of("memory", table.schema, memory=table)
