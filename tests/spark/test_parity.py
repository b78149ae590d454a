"""One table on both engines: the same split of each row, the same rows in the same order, the same description."""

# ruff: noqa: S311 - random tables, no secrets
from __future__ import annotations

import decimal
import json
import math
import random
import struct
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hard_tables import TEXTS, csv_text, nasty_rows, same

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


def random_double(draw: random.Random) -> float:
    """A double of random bits whose size a model can be served with, or one that is no number."""
    while True:
        (value,) = struct.unpack("<d", struct.pack("<Q", draw.getrandbits(64)))
        if not math.isfinite(value) or abs(value) < 3e38:
            return float(value)


def typed_table(draw: random.Random) -> pa.Table:
    special = [math.nan, None, 0.0, -0.0, 5e-324, -2.2250738585072014e-308, 1.0, 0.1, 1e300 / 1e270]
    return pa.table(
        {
            "bits": [draw.choice(special) if i % 5 == 0 else random_double(draw) for i in range(ROWS)],
            "single": pa.array([draw.gauss(0, 1) for _ in range(ROWS)], pa.float32()),
            "price": pa.array([decimal.Decimal(draw.randrange(10**12)).scaleb(-4) for _ in range(ROWS)]),
            "count": pa.array([draw.randrange(2**62) for _ in range(ROWS)], pa.int64()),
            "flag": [draw.choice([True, False, None]) for _ in range(ROWS)],
            "day": pa.array([date(1890, 1, 1) + timedelta(days=draw.randrange(30)) for _ in range(ROWS)]),
            "at": pa.array(
                [datetime(1930, 1, 1) + timedelta(microseconds=draw.randrange(3 * 10**15)) for _ in range(ROWS)],
                pa.timestamp("us"),
            ),
            "kind": pa.array([draw.choice([*TEXTS, None]) for _ in range(ROWS)]).dictionary_encode(),
            "y": [draw.randrange(3) for _ in range(ROWS)],
        }
    )


@pytest.mark.parametrize("split", [{}, {"group": "day"}, {"time": "at"}], ids=["class", "group", "time"])
def test_parquet_with_decimals_random_bits_and_times_before_1970(
    tmp_path: Path, prepare_table: Any, split: dict[str, str]
) -> None:
    table = typed_table(random.Random(3))
    bits = pa.array([None if value is not None and math.isinf(value) else value for value in table["bits"].to_pylist()])
    pq.write_table(table.set_column(0, "bits", bits), tmp_path / "a.parquet", row_group_size=200)
    source = str(tmp_path / "a.parquet")
    same(prepare_table("duckdb", source, split=split), prepare_table("spark", source, split=split))


def test_infinities_are_left_out_alike(tmp_path: Path, prepare_table: Any) -> None:
    table = typed_table(random.Random(4)).drop_columns(["at", "day", "price"])
    bits = [math.copysign(math.inf, i - 500) if i % 50 == 0 else float(i) / 7 for i in range(ROWS)]
    pq.write_table(table.set_column(0, "bits", pa.array(bits)), tmp_path / "a.parquet", row_group_size=200)
    made = [prepare_table(engine, str(tmp_path / "a.parquet"), bad_rows="drop") for engine in ("duckdb", "spark")]
    same(*made)
    assert made[1].description.dropped_rows == {"column 'bits' is not a number": 30}


def test_json_lines(tmp_path: Path, prepare_table: Any) -> None:
    draw = random.Random(5)
    rows = [
        {
            "size": draw.choice([1, 1.0, 1e5, -0.0, None, "12", draw.gauss(0, 1)]),
            "kind": draw.choice(TEXTS),
            "list": [1, {"a": "ü"}],
            "flag": draw.choice([True, False]),
            "y": draw.choice("ab"),
        }
        for _ in range(ROWS)
    ]
    lines = [json.dumps(row, ensure_ascii=i % 2 == 0) for i, row in enumerate(rows)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    source = str(tmp_path / "a.jsonl")
    same(prepare_table("duckdb", source), prepare_table("spark", source))


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
