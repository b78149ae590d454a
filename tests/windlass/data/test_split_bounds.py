"""The bounds of a split, found by how keys begin, against all keys in order."""

# ruff: noqa: S311 - random tables, no secrets
from __future__ import annotations

import hashlib
import itertools
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.data import splits
from windlass.data.config import SplitConfig
from windlass.data.duckdb_engine import DuckDBEngine
from windlass.data.program import Auxiliary, Plan, PlannedColumn, with_split_key
from windlass.data.splits import first_bins, split_expression

TARGET = PlannedColumn("y", 0, "category", "text")
BY_CLASS = Plan((), TARGET, "class", None, {})
BY_TIME = replace(BY_CLASS, auxiliary=Auxiliary(PlannedColumn("at", 1, "number", "number"), "time"))
CONFIG = SplitConfig(test=0.2, validation=0.15)
MAKE_LITTLE_MUCH = {"_FEW_KEYS": 5, "_BINS": 64}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckDBEngine]:
    made = DuckDBEngine(tmp_path_factory.mktemp("engine"), memory_limit_bytes=10**9, threads=1)
    with closing(made):
        yield made


@pytest.fixture(params=[{}, MAKE_LITTLE_MUCH, {"_FIRST_BINS": 3}], ids=["few", "much", "many classes"])
def sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in request.param.items():
        monkeypatch.setattr(splits, name, size)


def divide(engine: DuckDBEngine, plan: Plan, columns: dict[str, Sequence[Any]]) -> list[tuple[Any, ...]]:
    """Rows of a staged table with their split."""
    rows = pa.table({**columns, "bad": [0] * len(columns["target"])})
    engine.rows("DROP TABLE IF EXISTS staged")
    engine.load("staged", rows.to_reader())
    counted = engine.totals("staged", first_bins(plan))
    classes = Counter(columns["target"])
    split = split_expression(CONFIG, plan, engine, "staged", classes, counted)
    return engine.rows(f"SELECT *, {split} FROM staged")  # noqa: S608


@pytest.mark.usefixtures("sizes")
def test_of_each_class_the_rows_of_the_least_keys_are_test_and_those_of_the_next_validation(
    engine: DuckDBEngine,
) -> None:
    draw = random.Random(0)
    keys = [hashlib.md5(str(draw.randrange(900)).encode(), usedforsecurity=False).hexdigest() for _ in range(1000)]
    divided = divide(
        engine, BY_CLASS, {"target": draw.choices(["it's", "b", "rare"], [60, 39, 1], k=1000), "key": keys}
    )
    for name in ("it's", "b", "rare"):
        rows = sorted((key, split) for target, key, _, split in divided if target == name)
        test, validation = round(len(rows) * 0.2), round(len(rows) * 0.15)
        bounds = [rows[test][0], rows[test + validation][0]]
        for key, split in rows:
            assert split == ("test" if key < bounds[0] else "validation" if key < bounds[1] else "train")


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize("times", [[1.7e15 + i for i in range(500)], [0.5] * 400 + [1.0] * 100], ids=["all", "two"])
def test_the_last_rows_in_time_are_test_and_equal_times_are_not_divided(
    engine: DuckDBEngine, times: list[float]
) -> None:
    random.Random(0).shuffle(times)
    engine.rows("DROP TABLE IF EXISTS timed")
    engine.load("timed", pa.table({"auxiliary": times}).to_reader())
    keyed = engine.rows(with_split_key("SELECT * FROM timed", 0, BY_TIME.auxiliary))
    columns = {"target": ["a"] * len(times), "auxiliary": times, "key": [key for _, key in keyed]}
    in_order = sorted(times)
    starts = [in_order[len(times) - 175], in_order[len(times) - 100]]
    for _, time, *_, split in divide(engine, BY_TIME, columns):
        assert split == ("test" if time >= starts[1] else "validation" if time >= starts[0] else "train")


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=20))
def test_keys_of_times_are_ordered_as_the_times_are(engine: DuckDBEngine, times: list[float]) -> None:
    engine.rows("DROP TABLE IF EXISTS timed")
    engine.load("timed", pa.table({"auxiliary": pa.array(times, pa.float64())}).to_reader())
    keyed = sorted(engine.rows(with_split_key("SELECT * FROM timed", 0, BY_TIME.auxiliary)))
    for (one, key), (other, other_key) in itertools.pairwise(keyed):
        assert (one < other) == (key < other_key)
        assert (one == other) == (key == other_key)


def test_a_class_of_one_row_is_train(engine: DuckDBEngine) -> None:
    divided = divide(engine, BY_CLASS, {"target": ["a"], "key": ["00" * 16]})
    assert [split for *_, split in divided] == ["train"]
