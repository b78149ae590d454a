"""Tables with what readers of files disagree about, and the comparison of two bundles that were made of one."""

from __future__ import annotations

import math
import random
import struct
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from windlass.data.bundle import Bundle
from windlass.data.description import SPLITS

if TYPE_CHECKING:
    import pyarrow as pa

NUMBERS = ("1e3", "0042", "-0", "+7", ".5", "5.", "1E-310", " 12 ", "NA", "", "nan", "9007199254740993", "3.4e38")
TEXTS = ("007", "7", "a, b", 'say "no"', "two\nlines", "straße", "e\u0301", "\U0001f600", " padded ", "null", "'", "\\")
BASE = datetime(1912, 6, 23, tzinfo=UTC)


def same(duckdb: Bundle, spark: Bundle) -> None:
    """Fail with the first thing in which two bundles differ."""
    one, other = (bundle.description.model_dump() for bundle in (duckdb, spark))
    for key in one:
        if key not in ("shards", "transforms", "target_transform"):
            assert one[key] == other[key], key
    for key in ("transforms", "target_transform"):
        leaves = list(zip(flat(one[key]), flat(other[key]), strict=True))
        assert [a for a, b in leaves if a != b and not (isinstance(a, float) and math.isclose(a, b))] == [], key
    for split in SPLITS:
        assert exact(duckdb.table(split)) == exact(spark.table(split)), split


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
