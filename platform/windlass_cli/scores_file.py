"""Answers written as they come, and seen under their name only when they are whole."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from windlass.errors import InvalidInputError
from windlass.variants import Signature
from windlass.variants.signature import PROBABILITIES, VALUE

_SUFFIXES = (".parquet", ".csv", ".jsonl")


class OutputError(InvalidInputError):
    """The scores cannot go where they were asked to."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"--output {path}: {problem}")
        self.path, self.problem = path, problem


class ScoresWriter(Protocol):
    def write(self, table: pa.Table) -> None: ...


def check_output(path: Path, *, force: bool) -> None:
    """Refuse before anything is computed.

    Raises:
        OutputError: the suffix is none of ours, the folder is missing, or the file exists and `force` is not set.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise OutputError(path, f"the suffix says the format; use one of {', '.join(_SUFFIXES)}")
    if not path.parent.is_dir():
        raise OutputError(path, f"there is no folder {path.parent}; make it first")
    if path.exists() and not force:
        raise OutputError(path, "exists already; choose another name or add --force")


@contextmanager
def open_scores(path: Path, signature: Signature) -> Iterator[ScoresWriter]:
    """A writer for tables of `scores_table`; the file takes its name when the block ends without an error."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    schema = _schema(signature)
    try:
        with temporary.open("wb") as file:
            with _writer(path.suffix.lower(), file, schema) as writer:
                yield writer
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def scores_table(signature: Signature, outputs: Mapping[str, np.ndarray[Any, np.dtype[Any]]]) -> pa.Table:
    """Outputs of an engine as a table: `prediction`, and of a classification one `probability_CLASS` per class."""
    if signature.class_names is None:
        return pa.table([pa.array(outputs[VALUE])], schema=_schema(signature))
    probabilities_BC = outputs[PROBABILITIES]
    names = np.asarray(signature.class_names, dtype=object)
    columns = [pa.array(names[probabilities_BC.argmax(axis=1)], pa.string())]
    columns += [pa.array(np.ascontiguousarray(column_B)) for column_B in probabilities_BC.T]
    return pa.table(columns, schema=_schema(signature))


def _schema(signature: Signature) -> pa.Schema:
    if signature.class_names is None:
        return pa.schema([("prediction", pa.float32())])
    probabilities = [(f"probability_{name}", pa.float32()) for name in signature.class_names]
    return pa.schema([("prediction", pa.string()), *probabilities])


def _writer(suffix: str, file: Any, schema: pa.Schema) -> Any:
    if suffix == ".parquet":
        from pyarrow import parquet

        return parquet.ParquetWriter(file, schema)
    if suffix == ".csv":
        from pyarrow import csv

        return csv.CSVWriter(file, schema)
    return _JsonLinesWriter(file)


class _JsonLinesWriter:
    def __init__(self, file: Any) -> None:
        self._file = file

    def __enter__(self) -> ScoresWriter:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, table: pa.Table) -> None:
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist())
        self._file.write("".join(lines).encode())
