from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from planted import ROWS, write_table
from windlass.data.bundle import Bundle
from windlass.data.config import ColumnType


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """2,000 people: whether their income is above zero; `sex` is carried and no feature."""
    rng = np.random.default_rng(0)
    count = ROWS["validation"]
    income, age = rng.normal(size=count), rng.uniform(20, 80, count)
    table = pa.table(
        {
            "income": income,
            "age": pa.array(age, mask=rng.random(count) < 0.1),
            "luck": rng.normal(size=count),
            "city": rng.choice(["Bonn", "Köln", "Rome", "Ulm"], count),
            "sex": rng.choice(["f", "m"], count),
            "y": (income > 0).astype(np.int64),
        }
    )
    types: dict[str, ColumnType] = {
        "income": "number",
        "age": "number",
        "luck": "number",
        "city": "category",
        "sex": "category",
    }
    directory = tmp_path_factory.mktemp("people") / "bundle"
    return write_table(directory, table, types=types, classes=("no", "yes"), carried=("sex",))


@pytest.fixture(scope="module")
def houses(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """2,000 prices from a size and a year, of numbers only."""
    rng = np.random.default_rng(1)
    count = ROWS["validation"]
    size, year = rng.normal(size=count), rng.normal(size=count)
    table = pa.table({"size": size, "year": year, "y": 3 * size + year + rng.normal(scale=0.1, size=count)})
    directory = tmp_path_factory.mktemp("houses") / "bundle"
    return write_table(directory, table, types={"size": "number", "year": "number"}, classes=None)
