"""Tables with what readers of files disagree about, and the comparison of two bundles that were made of one."""

from __future__ import annotations

import decimal
import json
import math
import random
import struct
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa

from windlass.data.bundle import Bundle
from windlass.data.description import SPLITS

NUMBERS = ("1e3", "0042", "-0", "+7", ".5", "5.", "1E-310", " 12 ", "NA", "", "nan", "9007199254740993", "3.4e38")
TEXTS = ("007", "7", "a, b", 'say "no"', "two\nlines", "straße", "e\u0301", "\U0001f600", " padded ", "null", "'", "\\")
DOUBLES = (math.nan, None, 0.0, -0.0, 5e-324, -2.2250738585072014e-308, 1.0, 0.1, 1e30, math.inf, -math.inf)
BASE = datetime(1912, 6, 23, tzinfo=UTC)


def same(duckdb: Bundle, spark: Bundle) -> None:
    """Fail with the first thing in which two bundles differ."""
    same_description(duckdb.description.model_dump(), spark.description.model_dump())
    for split in SPLITS:
        assert exact(duckdb.table(split)) == exact(spark.table(split)), split


def same_description(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Fail with the first key that differs: statistics by more than 1e-9, all else but the shards at all."""
    assert one.keys() == other.keys()
    for key in one:
        if key not in ("shards", "transforms", "target_transform"):
            assert one[key] == other[key], key
    for key in ("transforms", "target_transform"):
        leaves = list(zip(flat(one[key]), flat(other[key]), strict=True))
        assert [a for a, b in leaves if a != b and not (isinstance(a, float) and math.isclose(a, b))] == [], key


def flat(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for key in sorted(value) for leaf in flat(value[key])]
    if isinstance(value, list | tuple):
        return [len(value), *(leaf for each in value for leaf in flat(each))]
    return [value]


def exact(table: pa.Table) -> list[tuple[Any, ...]]:
    """The rows in their order; a double is its bits."""

    def cell(value: Any) -> Any:
        return struct.pack("<d", value) if isinstance(value, float) else value

    return [tuple(map(cell, row.values())) for row in table.to_pylist()]


def csv_text(rows: list[list[str]]) -> str:
    """Only what must be is quoted."""

    def cell(text: str) -> str:
        return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\n') else text

    return "".join(",".join(map(cell, row)) + "\n" for row in rows)


def nasty_rows(draw: random.Random, count: int) -> list[list[str]]:
    """A header and rows; the columns mixed, size, kind, code, when, and the class y."""
    rows = [["mixed", "size", "kind", "code", "when", "y"]]
    for i in range(count):
        mixed = draw.choice(NUMBERS) if i % 3 == 0 else repr(draw.choice([draw.gauss(0, 1e-9), draw.gauss(0, 1e17)]))
        moment = BASE + timedelta(seconds=draw.randrange(4 * 10**9), microseconds=draw.randrange(10**6))
        row = [mixed, str(draw.randrange(10**6)), draw.choice(TEXTS), f"{draw.randrange(40):05d}"]
        rows.append([*row, f"{moment:%Y-%m-%d %H:%M:%S.%f}", draw.choice(["no", "yes", "yes", "Ja, ja"])])
    return rows


def random_double(draw: random.Random) -> float:
    """A double of random bits whose size a model can be served with, or one that is no number."""
    while True:
        (value,) = struct.unpack("<d", struct.pack("<Q", draw.getrandbits(64)))
        if not math.isfinite(value) or abs(value) < 3e38:
            return float(value)


def typed_table(draw: random.Random, count: int) -> pa.Table:
    """What Parquet stores in types of its own, times and days before 1970 among it, and the class y."""
    first = BASE.replace(tzinfo=None)
    return pa.table(
        {
            "bits": [draw.choice(DOUBLES) if i % 5 == 0 else random_double(draw) for i in range(count)],
            "single": pa.array([draw.gauss(0, 1) for _ in range(count)], pa.float32()),
            "price": pa.array([decimal.Decimal(draw.randrange(10**12)).scaleb(-4) for _ in range(count)]),
            "count": pa.array([draw.randrange(2**62) for _ in range(count)], pa.int64()),
            "flag": [draw.choice([True, False, None]) for _ in range(count)],
            "day": pa.array([date(1890, 1, 1) + timedelta(days=draw.randrange(30)) for _ in range(count)]),
            "at": pa.array(
                [first + draw.randrange(700) * timedelta(days=50, microseconds=123) for _ in range(count)],
                pa.timestamp("us"),
            ),
            "kind": pa.array([draw.choice([*TEXTS, None]) for _ in range(count)]).dictionary_encode(),
            "y": [draw.randrange(3) for _ in range(count)],
        }
    )


def json_lines(draw: random.Random, count: int) -> str:
    """Objects with numbers and texts in one column, a nested value, a moment, and the class y."""

    def row() -> dict[str, Any]:
        moment = BASE + timedelta(seconds=draw.randrange(4 * 10**9))
        return {
            "size": draw.choice([1, 1.0, 1e5, -0.0, None, "12", draw.gauss(0, 1)]),
            "kind": draw.choice(TEXTS),
            "list": [1, {"a": "ü"}],
            "flag": draw.choice([True, False]),
            "when": f"{moment:%Y-%m-%dT%H:%M:%S}",
            "y": draw.choice("ab"),
        }

    return "".join(json.dumps(row(), ensure_ascii=i % 2 == 0) + "\n" for i in range(count))
