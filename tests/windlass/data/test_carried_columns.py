"""Columns that the model does not see, but whose groups are compared."""

from __future__ import annotations

from typing import Any

import pytest

from windlass.data.errors import DataError, UselessSensitiveColumnError
from windlass.data.features import encode, feature_width, serving_inputs

HEADER = "a,sex,born,y\n"
ROWS = [f"{n / 400:.4f},{sex},{1950 + n % 60},{n % 3 % 2}\n" for n, sex in enumerate("fm" * 200)]


def test_a_dropped_column_that_is_carried_lies_in_every_split_and_is_no_feature(write: Any, prepare_table: Any) -> None:
    source = str(write("t.csv", HEADER + "".join(ROWS)))
    bundle = prepare_table(source, drop=["sex", "born"], carry=("sex", "born"))
    description = bundle.description
    assert [(column.name, column.type, column.role) for column in description.columns] == [
        ("a", "number", "feature"),
        ("sex", "category", "carried"),
        ("born", "number", "carried"),
        ("y", "category", "target"),
    ]
    assert [transform.column for transform in description.transforms] == ["a"]
    assert feature_width(description) == encode(bundle, "train").features.shape[1] == 1
    rows = {line.split(",")[0]: line.strip().split(",") for line in ROWS}
    for split in ("train", "validation", "test"):
        table = bundle.table(split)
        assert table.num_rows
        assert list(serving_inputs(description, table)) == ["input"]
        for row in table.to_pylist():
            _, sex, born, y = rows[f"{row['a']:.4f}"]
            assert (row["sex"], row["born"], row["y"]) == (sex, float(born), int(y))


def test_carrying_moves_no_row_to_another_split(write: Any, prepare_table: Any) -> None:
    source = str(write("t.csv", HEADER + "".join(ROWS)))
    with_it = prepare_table(source, drop=["sex"], carry=("sex",))
    without = prepare_table(source, drop=["sex"])
    assert with_it.table("test", ["a"]) == without.table("test", ["a"])
    assert with_it.description.fingerprint == without.description.fingerprint
    assert "sex" not in without.table("test").column_names


def test_the_column_that_rows_are_split_by_can_be_carried(write: Any, prepare_table: Any) -> None:
    source = str(write("t.csv", HEADER + "".join(ROWS)))
    bundle = prepare_table(source, split={"group": "born"}, carry=("born",))
    assert set(bundle.table("test")["born"].to_pylist()).isdisjoint(bundle.table("train")["born"].to_pylist())


@pytest.mark.parametrize(
    ("carry", "says"),
    [
        ("y", "evaluate.sensitive: 'y' is the target; name a column whose values say a row's group"),
        ("zex", "evaluate.sensitive: "),
    ],
)
def test_what_cannot_be_carried_is_refused_by_name(write: Any, prepare_table: Any, carry: str, says: str) -> None:
    source = str(write("t.csv", HEADER + "".join(ROWS)))
    with pytest.raises(DataError) as refused:
        prepare_table(source, carry=(carry,))
    assert says in str(refused.value)


def test_a_sensitive_column_with_one_value_is_told_to_make_no_groups(write: Any, prepare_table: Any) -> None:
    source = str(write("t.csv", "a,land,y\n" + "".join(f"{n * 0.37 % 1:.4f},de,{n % 2}\n" for n in range(200))))
    with pytest.raises(UselessSensitiveColumnError) as refused:
        prepare_table(source, carry=("land",))
    assert str(refused.value) == (
        "evaluate.sensitive: 'land' makes no groups of rows (constant: every value is 'de'); "
        "take it out of the list, or name a column that does"
    )
