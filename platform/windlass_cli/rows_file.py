"""Rows of a file of any length as a version's inputs, in flat memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from windlass.data.program import MISSING
from windlass.errors import InvalidInputError
from windlass.variants import Signature
from windlass.variants.rows import InvalidRowsError, rows_to_tensors

Inputs = dict[str, np.ndarray[Any, np.dtype[Any]]]
OnPosition = Callable[[int], None]
_CSV_BLOCK_BYTES = 4 << 20
_IMAGE_COLUMN = "image"
_SHOWN_NAMES = 5


class RowsFileError(InvalidInputError):
    """A file of rows does not fit the model; nothing was written."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path, self.problem = path, problem


def read_inputs(path: Path, signature: Signature, batch_rows: int, on_position: OnPosition) -> Iterator[Inputs]:
    """The inputs of the rows of a CSV, Parquet or JSON Lines file, `batch_rows` at a time, in the order of the file.

    A table's columns are found by name, in any order; others are ignored. An image is a column `image` of H*W*C pixel
    values, or one column per pixel in the order of rows, columns, channels. A missing number is NaN, a missing category
    the empty string.

    Args:
        on_position: told how far into the file, in bytes, it has come.

    Raises:
        RowsFileError: a column is missing, or a value is of another type; the message names its row, counted from 1.
    """
    readers = {".csv": _read_csv, ".parquet": _read_parquet, ".jsonl": _read_jsonl, ".ndjson": _read_jsonl}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise RowsFileError(path, f"{path.suffix or 'no suffix'}: rows are read from {', '.join(readers)}")
    if not path.is_file():
        raise RowsFileError(path, "no such file")
    return reader(path, signature, batch_rows, on_position)


def _read_csv(path: Path, signature: Signature, batch_rows: int, on_position: OnPosition) -> Iterator[Inputs]:
    from pyarrow import csv

    names = _csv_columns(path)
    wanted = _wanted(path, names, signature)
    with path.open("rb") as file:
        try:
            reader = csv.open_csv(
                file,
                read_options=csv.ReadOptions(block_size=_CSV_BLOCK_BYTES, use_threads=False),
                parse_options=csv.ParseOptions(newlines_in_values=True),
                convert_options=csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()),
                    include_columns=wanted,
                    strings_can_be_null=True,
                    null_values=[""],
                ),
            )
            yield from _from_batches(path, signature, reader, batch_rows, lambda: on_position(file.tell()))
        except pa.ArrowInvalid as error:
            raise RowsFileError(path, str(error)) from None


def _csv_columns(path: Path) -> list[str]:
    import csv

    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            names = next(csv.reader(file), [])
    except UnicodeDecodeError as error:
        raise RowsFileError(path, f"byte {error.start} is not UTF-8; save the file as UTF-8") from None
    if not names:
        raise RowsFileError(path, "is empty; its first line has to name the columns")
    return names


def _read_parquet(path: Path, signature: Signature, batch_rows: int, on_position: OnPosition) -> Iterator[Inputs]:
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        wanted = _wanted(path, file.schema_arrow.names, signature)
        size_bytes, rows, done = path.stat().st_size, max(file.metadata.num_rows, 1), 0

        def batches() -> Iterator[pa.RecordBatch]:
            nonlocal done
            for batch in file.iter_batches(batch_size=batch_rows, columns=wanted):
                done += batch.num_rows
                yield batch

        yield from _from_batches(path, signature, batches(), batch_rows, lambda: on_position(size_bytes * done // rows))
    except pa.ArrowInvalid as error:
        raise RowsFileError(path, f"not a Parquet file that can be read: {error}") from None


def _read_jsonl(path: Path, signature: Signature, batch_rows: int, on_position: OnPosition) -> Iterator[Inputs]:
    with path.open("rb") as file:
        rows: list[Any] = []
        first = 1
        for number, line in enumerate(file, start=1):
            if line.strip():
                rows.append(_parse_line(path, number, line, signature))
            if len(rows) == batch_rows:
                yield _tensors(path, signature, rows, first)
                first, rows = number + 1, []
                on_position(file.tell() if file.seekable() else 0)
        if rows:
            yield _tensors(path, signature, rows, first)


def _parse_line(path: Path, number: int, line: bytes, signature: Signature) -> Any:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RowsFileError(path, f"line {number} is not JSON: {error}") from None
    if not isinstance(row, dict):
        return row
    if signature.columns is None:
        return row.get(_IMAGE_COLUMN)
    return {column.name: row[column.name] for column in signature.columns if column.name in row}


def _tensors(path: Path, signature: Signature, rows: list[Any], first: int) -> Inputs:
    try:
        return rows_to_tensors(signature, rows)
    except InvalidRowsError as error:
        line = "" if error.row is None else f"line {first + error.row}, "
        column = "" if error.column is None else f"column {error.column!r}, "
        raise RowsFileError(path, f"{line}{column}{error.problem}") from None


def _wanted(path: Path, names: list[str], signature: Signature) -> list[str]:
    """The columns to read, in the order of the signature."""
    if signature.columns is not None:
        needed = [column.name for column in signature.columns]
        if missing := [name for name in needed if name not in names]:
            shown = ", ".join(missing[:_SHOWN_NAMES]) + (", …" if len(missing) > _SHOWN_NAMES else "")
            raise RowsFileError(path, f"column {shown} is missing; the model reads {len(needed)} columns by name")
        return needed
    if _IMAGE_COLUMN in names:
        return [_IMAGE_COLUMN]
    height, width, channels = signature.image_shape
    pixels = [name for name in names if name not in ("label", "target")]
    if len(pixels) != height * width * channels:
        raise RowsFileError(
            path,
            f"has {len(pixels)} columns; the model reads images of {height}×{width}×{channels}: "
            f"a column `image`, or {height * width * channels} columns of pixels",
        )
    return pixels


def _from_batches(
    path: Path, signature: Signature, batches: Any, batch_rows: int, on_batch: Callable[[], None]
) -> Iterator[Inputs]:
    first = 1
    for batch in batches:
        for start in range(0, batch.num_rows, batch_rows):
            part = batch.slice(start, batch_rows)
            yield _batch_inputs(path, signature, part, first)
            first += part.num_rows
        on_batch()


def _batch_inputs(path: Path, signature: Signature, batch: pa.RecordBatch, first: int) -> Inputs:
    if signature.columns is None:
        return {signature.inputs[0].name: _images(path, signature, batch, first)}
    values = [
        _numbers(path, column.name, batch.column(column.name), first)
        if column.type == "number"
        else _texts(batch.column(column.name))
        for column in signature.columns
    ]
    if signature.form == "matrix":
        return {signature.inputs[0].name: np.stack(values, axis=1)}
    return {column.name: column_B for column, column_B in zip(signature.columns, values, strict=True)}


def _numbers(path: Path, name: str, values: Any, first: int) -> np.ndarray[Any, np.dtype[Any]]:
    if pa.types.is_string(values.type):
        values = pc.utf8_trim_whitespace(values)
        missing = pc.is_in(pc.utf8_lower(values), value_set=pa.array(sorted(MISSING)))
        values = pc.if_else(missing, pa.scalar(None, pa.string()), values)
    try:
        numbers = pc.cast(values, pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        row, found = _first_that_is_no_number(values)
        raise RowsFileError(path, f"row {first + row}, column {name!r}: {found!r} is not a number") from None
    return np.asarray(numbers.to_numpy(zero_copy_only=False), dtype=np.float32)


def _first_that_is_no_number(values: Any) -> tuple[int, Any]:
    for row, value in enumerate(values.to_pylist()):
        try:
            if value is not None:
                float(value)
        except (TypeError, ValueError):
            return row, value
    return 0, values[0].as_py()


def _texts(values: Any) -> np.ndarray[Any, np.dtype[Any]]:
    texts = pc.fill_null(pc.cast(values, pa.string()), "")
    return np.asarray(texts.to_numpy(zero_copy_only=False), dtype=object)


def _images(path: Path, signature: Signature, batch: pa.RecordBatch, first: int) -> np.ndarray[Any, np.dtype[Any]]:
    height, width, channels = signature.image_shape
    size = height * width * channels
    if batch.schema.names == [_IMAGE_COLUMN]:
        pixels_BP = _image_column(path, batch.column(0), size, first)
    else:
        columns = [_numbers(path, name, batch.column(name), first) for name in batch.schema.names]
        pixels_BP = np.stack(columns, axis=1)
    whole = (pixels_BP >= 0) & (pixels_BP <= 255) & (pixels_BP == np.floor(pixels_BP))
    if not whole.all():
        row = int(np.argmin(whole.all(axis=1)))
        raise RowsFileError(path, f"row {first + row}: a pixel is not a whole number from 0 to 255")
    return pixels_BP.astype(np.uint8).reshape(-1, height, width, channels)


def _image_column(path: Path, values: Any, size: int, first: int) -> np.ndarray[Any, np.dtype[Any]]:
    rows = []
    for row, value in enumerate(values.to_pylist()):
        flat = np.frombuffer(value, dtype=np.uint8) if isinstance(value, bytes) else np.asarray(value).ravel()
        if flat.size != size or flat.dtype.kind not in "uif":
            raise RowsFileError(path, f"row {first + row}, column 'image': not {size} pixel values")
        rows.append(flat)
    return np.stack(rows)
