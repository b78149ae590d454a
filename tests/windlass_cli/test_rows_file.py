"""Rows of CSV, Parquet and JSON Lines files as a version's inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from windlass.variants import ColumnSpec, Signature, TensorSpec
from windlass_cli.rows_file import Inputs, RowsFileError, read_inputs

VALUE = (TensorSpec(name="value", dtype="float32", shape=(None,)),)
NUMBERS = Signature(
    inputs=(TensorSpec(name="input", dtype="float32", shape=(None, 2)),),
    outputs=VALUE,
    columns=(ColumnSpec(name="a", type="number"), ColumnSpec(name="b", type="number")),
)
MIXED = Signature(
    inputs=(
        TensorSpec(name="a", dtype="float32", shape=(None,)),
        TensorSpec(name="c", dtype="string", shape=(None,)),
    ),
    outputs=VALUE,
    columns=(ColumnSpec(name="a", type="number"), ColumnSpec(name="c", type="category")),
)
IMAGES = Signature(
    inputs=(TensorSpec(name="image", dtype="uint8", shape=(None, 1, 2, 1)),), outputs=VALUE, class_names=None
)


def read(path: Path, signature: Signature, batch_rows: int = 100) -> list[Inputs]:
    return list(read_inputs(path, signature, batch_rows, lambda _: None))


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_columns_are_found_by_name_in_any_order_and_others_are_ignored(tmp_path: Path) -> None:
    (batch,) = read(write(tmp_path / "r.csv", "b,x,a\n2,no,1\n4,no, 3 \n"), NUMBERS)
    assert batch["input"].dtype == np.float32
    assert batch["input"].tolist() == [[1, 2], [3, 4]]


def test_a_missing_number_is_nan_and_a_missing_category_the_empty_string(tmp_path: Path) -> None:
    (batch,) = read(write(tmp_path / "r.csv", "a,c\n,red\nNA,\n"), MIXED)
    assert np.isnan(batch["a"]).tolist() == [True, True]
    assert batch["c"].tolist() == ["red", ""]


def test_a_byte_order_mark_and_quoted_line_breaks_are_read(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_bytes('\ufeffa,c\n1,"red\nish"\n'.encode())
    (batch,) = read(path, MIXED)
    assert batch["c"].tolist() == ["red\nish"]


def test_csv_parquet_and_json_lines_give_the_same(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"a": 1.5, "c": "red"}, {"a": None, "c": None}]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "r.parquet")
    write(tmp_path / "r.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write(tmp_path / "r.csv", "a,c\n1.5,red\n,\n")
    (one,), (two,), (three,) = (read(tmp_path / name, MIXED) for name in ("r.csv", "r.parquet", "r.jsonl"))
    for name in ("a", "c"):
        np.testing.assert_array_equal(one[name], two[name])
        np.testing.assert_array_equal(one[name], three[name])


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_batches_are_never_longer_than_asked_and_keep_the_order(tmp_path: Path, suffix: str) -> None:
    rows = [{"a": float(n), "b": 0.0} for n in range(25)]
    if suffix == "parquet":
        parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "r.parquet")
    elif suffix == "jsonl":
        write(tmp_path / "r.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    else:
        write(tmp_path / "r.csv", "a,b\n" + "".join(f"{row['a']},0\n" for row in rows))
    batches = read(tmp_path / f"r.{suffix}", NUMBERS, batch_rows=10)
    assert max(len(batch["input"]) for batch in batches) <= 10
    assert np.concatenate([batch["input"] for batch in batches])[:, 0].tolist() == list(range(25))


def test_pixels_come_as_one_column_each_and_a_label_is_left_out(tmp_path: Path) -> None:
    (batch,) = read(write(tmp_path / "r.csv", "p0,p1,label\n0,255,7\n"), IMAGES)
    assert batch["image"].dtype == np.uint8
    assert batch["image"].tolist() == [[[[0], [255]]]]


def test_images_come_as_a_column_of_lists_or_bytes(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"image": [[0, 255]]}), tmp_path / "lists.parquet")
    parquet.write_table(pa.table({"image": [b"\x00\xff"]}), tmp_path / "bytes.parquet")
    write(tmp_path / "r.jsonl", '{"image": [[[0], [255]]]}\n')
    for name in ("lists.parquet", "bytes.parquet", "r.jsonl"):
        (batch,) = read(tmp_path / name, IMAGES)
        assert batch["image"].tolist() == [[[[0], [255]]]]


BAD = [
    ("r.csv", "a\n1\n", NUMBERS, "column b is missing; the model reads 2 columns by name"),
    ("r.csv", "a,b\n1,2\n3,four\n", NUMBERS, "row 2, column 'b': 'four' is not a number"),
    ("r.csv", "a,b\n1,2\n3\n", NUMBERS, "Expected 2 columns, got 1"),
    ("r.csv", "", NUMBERS, "is empty; its first line has to name the columns"),
    ("r.csv", "p0,p1\n0,256\n", IMAGES, "row 1: a pixel is not a whole number from 0 to 255"),
    ("r.csv", "p0,p1,p2\n0,1,2\n", IMAGES, "has 3 columns; the model reads images of 1×2×1"),
    ("r.jsonl", '{"a": 1, "b": 2}\nno\n', NUMBERS, "line 2 is not JSON"),
    ("r.jsonl", '{"a": 1, "b": 2}\n{"a": 1, "b": "x"}\n', NUMBERS, "line 2, column 'b'"),
    (
        "r.jsonl",
        '{"a": 1}\n',
        NUMBERS,
        "line 1, column 'b', the column is missing; send null",
    ),
    ("r.jsonl", '{"image": [1, 2, 3]}\n', IMAGES, "line 1, the image is not a list of the shape"),
    ("r.parquet", "no", NUMBERS, "not a Parquet file"),
    ("r.txt", "a,b\n", NUMBERS, ".txt: rows are read from .csv, .parquet, .jsonl, .ndjson"),
]


@pytest.mark.attack
@pytest.mark.parametrize(("name", "text", "signature", "problem"), BAD, ids=[f"{b[0]}: {b[3][:30]}" for b in BAD])
def test_a_file_that_does_not_fit_is_refused_with_its_place(
    tmp_path: Path, name: str, text: str, signature: Signature, problem: str
) -> None:
    with pytest.raises(RowsFileError) as refused:
        read(write(tmp_path / name, text), signature)
    assert problem in str(refused.value)
    assert str(tmp_path / name) in str(refused.value)


@pytest.mark.attack
def test_a_csv_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_bytes(b"a,c\n1,\xe9\n")
    with pytest.raises(RowsFileError, match="UTF"):
        read(path, MIXED)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RowsFileError, match="no such file"):
        read(tmp_path / "r.csv", NUMBERS)


def test_an_image_of_another_size_in_a_parquet_column_is_named_by_its_row(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"image": [[0, 255], [0]]}), tmp_path / "r.parquet")
    with pytest.raises(RowsFileError, match=r"row 2, column 'image': not 2 pixel values"):
        read(tmp_path / "r.parquet", IMAGES)
