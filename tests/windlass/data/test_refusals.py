"""What a table or its recipe is refused for, beside bad rows and bad files: the message says what to do."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from windlass.data.config import DataConfig
from windlass.data.duckdb_engine import OutOfMemoryError
from windlass.data.errors import (
    BadFileError,
    ImagesOnSparkError,
    MissingColumnError,
    SplitError,
    UnknownSourceKindError,
    WrongModalityError,
)
from windlass.data.inference import infer
from windlass.data.prepare import prepare
from windlass.data.sources import resolve_source, s3_filesystem
from windlass.errors import InvalidInputError, MissingExtraError

TABLE = "a,when,y\n" + "".join(f"{n}.5,2026-01-{n % 28 + 1:02d},{'no' if n % 3 else 'yes'}\n" for n in range(60))


def test_a_table_without_a_target_is_told_to_name_one_of_its_columns(write: Any, prepare_table: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"data\.target: is needed: the column to predict; columns: a, when, y"):
        prepare_table(str(write("a.csv", TABLE)), target=None)


def test_init_with_a_column_that_is_not_there_names_the_close_ones(write: Any) -> None:
    with pytest.raises(MissingColumnError, match=r"--target: a\.csv has no column 'Y'; did you mean 'y'\? its columns"):
        infer(write("a.csv", TABLE), "Y")


def test_init_of_images_says_what_to_write(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        (tmp_path / "photos" / label / "1.png").write_bytes(b"no pixels are looked at")
    with pytest.raises(WrongModalityError, match=r"the source is images, .* cannot read as table; use task: image"):
        infer(tmp_path / "photos", "y")


@pytest.mark.parametrize(
    ("source", "modality", "says"),
    [
        ("sklearn:wine", "images", "the source is a table, .*use task: tabular-classification or tabular-regression"),
        ("sklearn:digits", "table", "the source is images, .*use task: image-classification"),
    ],
)
def test_a_task_for_other_data_names_the_one_to_use(tmp_path: Path, source: str, modality: Any, says: str) -> None:
    with pytest.raises(WrongModalityError, match=says):
        prepare(
            DataConfig(source=source),
            modality=modality,
            target_kind="class",
            source=resolve_source(source, tmp_path),
            output=tmp_path,
            memory_limit_bytes=10**9,
            threads=1,
        )


def test_a_time_split_of_too_few_rows_says_what_to_change(write: Any, prepare_table: Any) -> None:
    few = "".join(line + "\n" for line in TABLE.splitlines()[:6])
    with pytest.raises(
        SplitError, match=r"data\.split: 5 rows are too few for shares 0\.05 and 0\.05; raise the shares"
    ):
        prepare_table(str(write("a.csv", few)), split={"time": "when", "validation": 0.05, "test": 0.05})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[1, 2]\n", r"a\.jsonl: row 1: is no JSON object; JSON Lines has one object a line"),
        ("{}\n{}\n", r"a\.jsonl: has no columns; each line is an object whose keys are the columns"),
    ],
)
def test_json_lines_without_columns_are_refused_with_their_form(
    write: Any, prepare_table: Any, content: str, says: str
) -> None:
    with pytest.raises(BadFileError, match=says):
        prepare_table(str(write("a.jsonl", content)))


def test_an_idx_source_is_two_files(write: Any, tmp_path: Path) -> None:
    for name in ("a-idx1-ubyte", "b-idx3-ubyte", "c-idx3-ubyte"):
        write(f"idx/{name}", b"\0\0\x08\x01")
    with pytest.raises(UnknownSourceKindError, match="an IDX source is two files, images and labels, not 3"):
        resolve_source("idx", tmp_path)


def test_images_on_spark_are_refused_with_what_to_take_out(tmp_path: Path) -> None:
    with pytest.raises(ImagesOnSparkError, match=r"data\.engine: spark prepares tables only.*take data\.engine out"):
        prepare(
            DataConfig(source="sklearn:digits", engine="spark"),
            modality="images",
            target_kind="class",
            source=resolve_source("sklearn:digits", tmp_path),
            output=tmp_path,
            memory_limit_bytes=10**9,
            threads=1,
        )


def test_too_little_memory_says_which_key_to_raise(tmp_path: Path) -> None:
    from windlass.data.duckdb_engine import DuckDBEngine

    engine = DuckDBEngine(tmp_path, memory_limit_bytes=1, threads=1)
    try:
        with pytest.raises(
            OutOfMemoryError, match=r"1 B are too little to prepare this table; raise resources\.memory"
        ):
            engine.rows("SELECT list(i ORDER BY hash(i)) FROM range(30000000) t(i)")
    finally:
        engine.close()


def test_missing_packages_are_named_by_the_extra_that_brings_them(
    write: Any, prepare_table: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "duckdb", None)
        with pytest.raises(
            MissingExtraError, match=r"preparing a table needs more packages: pip install 'windlass\[train\]'"
        ):
            prepare_table(str(write("a.csv", TABLE)))
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pyarrow.fs", None)
        with pytest.raises(MissingExtraError, match=r"reading data from S3 needs .*windlass\[train\]"):
            s3_filesystem()
    with monkeypatch.context() as without:
        without.setattr(sys, "path", [])
        with pytest.raises(MissingExtraError, match=r"the source sklearn:wine needs .*windlass\[train\]"):
            resolve_source("sklearn:wine", tmp_path)
