"""One table on both engines: the same split of each row, the same rows in the same order, the same description."""

# ruff: noqa: S311 - random tables, no secrets
from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from hard_tables import csv_text, json_lines, nasty_rows, same, typed_table

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("small_parts")]

ROWS = 1500


@pytest.mark.parametrize("split", [{}, {"group": "code"}, {"time": "when"}], ids=["class", "group", "time"])
def test_csv_with_quotes_line_breaks_unicode_and_mixed_numbers(
    tmp_path: Path, prepare_table: Any, split: dict[str, str]
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(csv_text(nasty_rows(random.Random(1), ROWS)), encoding="utf-8")
    settings = {"split": split, "columns": {"mixed": "number", "code": "category"}}
    same(prepare_table("duckdb", str(path), **settings), prepare_table("spark", str(path), **settings))


def test_csv_cut_by_byte_ranges_in_several_files(tmp_path: Path, prepare_table: Any) -> None:
    draw = random.Random(2)
    header, *rows = [[cell.replace("\n", " ") for cell in row] for row in nasty_rows(draw, ROWS)]
    for i, chunk in enumerate((rows[:1200], rows[1200:])):
        (tmp_path / "parts").mkdir(exist_ok=True)
        text = csv_text([header, *chunk])
        (tmp_path / "parts" / f"{i}.csv").write_bytes(b"\xef\xbb\xbf" * i + text.encode())
    settings = {"columns": {"mixed": "number", "code": "category"}, "drop": ["when"], "carry": ("when",)}
    one = prepare_table("duckdb", str(tmp_path / "parts"), kind="number", target="size", **settings)
    other = prepare_table("spark", str(tmp_path / "parts"), kind="number", target="size", **settings)
    same(one, other)
    assert one.description.target_transform is not None


@pytest.mark.parametrize("split", [{}, {"group": "day"}, {"time": "at"}], ids=["class", "group", "time"])
def test_parquet_with_decimals_random_bits_and_times_before_1970(
    tmp_path: Path, prepare_table: Any, split: dict[str, str]
) -> None:
    pq.write_table(typed_table(random.Random(3), ROWS), tmp_path / "a.parquet", row_group_size=200)
    source, settings = str(tmp_path / "a.parquet"), {"split": split, "bad_rows": "drop"}
    made = [prepare_table(engine, source, **settings) for engine in ("duckdb", "spark")]
    same(*made)
    infinite = pc.sum(pc.is_inf(pq.read_table(source)["bits"])).as_py()
    assert made[1].description.dropped_rows == {"column 'bits' is not a number": infinite}


@pytest.mark.parametrize("split", [{}, {"group": "kind"}, {"time": "when"}], ids=["class", "group", "time"])
def test_json_lines_with_values_of_mixed_types(tmp_path: Path, prepare_table: Any, split: dict[str, str]) -> None:
    (tmp_path / "a.jsonl").write_text(json_lines(random.Random(5), ROWS), encoding="utf-8")
    source = str(tmp_path / "a.jsonl")
    same(prepare_table("duckdb", source, split=split), prepare_table("spark", source, split=split))


def test_a_table_in_memory_and_equal_rows_in_the_users_own_splits(tmp_path: Path, prepare_table: Any) -> None:
    same(
        prepare_table("duckdb", "sklearn:wine", target=None),
        prepare_table("spark", "sklearn:wine", target=None),
    )
    draw = random.Random(6)
    rows = [["x", "part", "y"]]
    rows += [[str(draw.randrange(60)), draw.choice(["train", "val", "test"]), draw.choice("ab")] for _ in range(400)]
    (tmp_path / "a.csv").write_text(csv_text(rows))
    settings = {"split": {"column": "part"}, "duplicates": "drop"}
    made = [prepare_table(engine, str(tmp_path / "a.csv"), **settings) for engine in ("duckdb", "spark")]
    same(*made)
    assert made[1].description.dropped_rows["equal to a row of another split"] > 0
