# ruff: noqa: S311 - random tables, no secrets
from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from windlass.data.description import SPLITS
from windlass.data.errors import DuplicatesAcrossSplitsError, SplitError
from windlass.errors import InvalidInputError

Rows = list[tuple[Any, ...]]


def some_rows(count: int = 1000, seed: int = 0) -> Rows:
    draw = random.Random(seed)
    return [
        (
            round(draw.gauss(0, 3), 4),
            draw.choice("abc"),
            round(draw.random(), 6),
            draw.choices(["no", "yes"], [3, 1])[0],
        )
        for _ in range(count)
    ]


def write_csv(path: Path, rows: Rows, header: Sequence[str] = ("u", "v", "w", "y")) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def members(bundle: Any) -> dict[str, set[tuple[Any, ...]]]:
    return {split: {tuple(row.values()) for row in bundle.table(split).to_pylist()} for split in SPLITS}


def test_shares_are_exact_in_every_class(tmp_path: Path, prepare_table: Any) -> None:
    rows = some_rows(1000)
    description = prepare_table(str(write_csv(tmp_path / "a.csv", rows)), split={"test": 0.2}).description
    for index, name in enumerate(description.class_names):
        count = sum(row[-1] == name for row in rows)
        assert description.class_counts["test"][index] == round(count * 0.2)
        assert description.class_counts["validation"][index] == round(count * 0.15)
    assert sum(description.rows.values()) == 1000


def test_a_rows_split_depends_neither_on_the_files_order_nor_on_its_sharding(
    tmp_path: Path, prepare_table: Any
) -> None:
    rows = some_rows(600)
    whole = prepare_table(str(write_csv(tmp_path / "a.csv", rows)))
    shuffled = random.Random(5).sample(rows, len(rows))
    (tmp_path / "parts").mkdir()
    for part in range(3):
        write_csv(tmp_path / "parts" / f"{part}.csv", shuffled[part::3])
    divided = prepare_table(str(tmp_path / "parts" / "*.csv"))
    for split in SPLITS:
        assert whole.table(split).equals(divided.table(split)), "the order of the rows is the same, too"
    assert whole.description.fingerprint == divided.description.fingerprint
    assert whole.description.transforms == divided.description.transforms


def test_another_seed_is_another_split_of_the_same_content(tmp_path: Path, prepare_table: Any) -> None:
    path = str(write_csv(tmp_path / "a.csv", some_rows(300)))
    one, other = prepare_table(path), prepare_table(path, split={"seed": 1})
    assert members(one) != members(other)
    assert one.description.fingerprint == other.description.fingerprint


def test_the_fingerprint_sees_one_changed_cell(tmp_path: Path, prepare_table: Any) -> None:
    rows = some_rows(300)
    one = prepare_table(str(write_csv(tmp_path / "a.csv", rows)))
    rows[7] = (rows[7][0] + 1e-4, *rows[7][1:])
    other = prepare_table(str(write_csv(tmp_path / "b.csv", rows)))
    assert one.description.fingerprint != other.description.fingerprint


def test_equal_rows_never_cross_splits(tmp_path: Path, prepare_table: Any) -> None:
    rows = [(i, "a", f"{i % 7}", "no" if i % 3 else "yes") for i in range(150)] * 4
    found = members(prepare_table(str(write_csv(tmp_path / "a.csv", rows))))
    assert not found["train"] & found["test"]
    assert not found["train"] & found["validation"]
    assert not found["validation"] & found["test"]


def test_equal_numbers_written_differently_are_equal_rows(tmp_path: Path, prepare_table: Any) -> None:
    rows: Rows = [(f"{i}", "a", i % 5, "no" if i % 3 else "yes") for i in range(200)]
    rows += [(f"{i}.0", "a", f"{i % 5}e0", "no" if i % 3 else "yes") for i in range(200)]
    found = members(prepare_table(str(write_csv(tmp_path / "a.csv", rows))))
    assert sum(map(len, found.values())) == 200


def test_a_group_stays_in_one_split(tmp_path: Path, prepare_table: Any) -> None:
    rows = [(f"patient-{i % 60}", *row) for i, row in enumerate(some_rows(900))]
    path = write_csv(tmp_path / "a.csv", rows, ("patient", "u", "v", "w", "y"))
    bundle = prepare_table(str(path), split={"group": "patient"})
    group_of = {row[1:4]: row[0] for row in rows}
    groups = {split: {group_of[r["u"], r["v"], r["w"]] for r in bundle.table(split).to_pylist()} for split in SPLITS}
    assert not groups["train"] & groups["test"]
    assert not groups["train"] & groups["validation"]
    assert "patient" in bundle.description.dropped_columns


@pytest.mark.parametrize("time", [lambda i: f"2024-{1 + i // 28:02d}-{1 + i % 28:02d}", lambda i: 1700000000 + i * 60])
def test_a_time_split_keeps_the_last_rows_for_test(tmp_path: Path, prepare_table: Any, time: Any) -> None:
    rows = [(time(i), i / 7, f"{i % 3}", "no" if i % 5 else "yes") for i in range(300)]
    shuffled = random.Random(3).sample(rows, len(rows))
    path = write_csv(tmp_path / "a.csv", shuffled, ("at", "u", "v", "y"))
    bundle = prepare_table(str(path), split={"time": "at"})
    values = {split: bundle.table(split).column("u").to_pylist() for split in SPLITS}
    assert max(values["train"]) < min(values["validation"])
    assert max(values["validation"]) < min(values["test"])
    assert [bundle.description.rows[split] for split in SPLITS] == [210, 45, 45]


def given(rows: Rows) -> Rows:
    return [(("train", "Val", "test")[0 if i % 5 < 3 else i % 5 - 2], *row) for i, row in enumerate(rows)]


def test_splits_that_a_column_gives_are_kept(tmp_path: Path, prepare_table: Any) -> None:
    rows = given(some_rows(200))
    path = write_csv(tmp_path / "a.csv", rows, ("part", "u", "v", "w", "y"))
    bundle = prepare_table(str(path), split={"column": "part"})
    assert [bundle.description.rows[split] for split in SPLITS] == [120, 40, 40]
    assert {row[0] for row in members(bundle)["test"]} == {row[1] for row in rows if row[0] == "test"}


@pytest.mark.attack
def test_equal_rows_in_given_splits_are_refused_and_named(tmp_path: Path, prepare_table: Any) -> None:
    rows = given(some_rows(100))
    rows += [("test", *rows[0][1:]), ("Val", *rows[1][1:])]
    path = write_csv(tmp_path / "given.csv", rows, ("part", "u", "v", "w", "y"))
    with pytest.raises(DuplicatesAcrossSplitsError) as caught:
        prepare_table(str(path), split={"column": "part"})
    text = str(caught.value)
    assert "2 rows stand in more than one split" in text
    assert "given.csv row 2 (train) and given.csv row 102 (test)" in text
    assert "data.duplicates" in text


def test_equal_rows_in_given_splits_are_dropped_from_train_if_asked(tmp_path: Path, prepare_table: Any) -> None:
    rows = given(some_rows(100))
    rows += [("test", *rows[0][1:])]
    path = write_csv(tmp_path / "a.csv", rows, ("part", "u", "v", "w", "y"))
    dropped = prepare_table(str(path), split={"column": "part"}, duplicates="drop")
    assert dropped.description.dropped_rows == {"equal to a row of another split": 1}
    assert [dropped.description.rows[split] for split in SPLITS] == [59, 20, 21]
    allowed = prepare_table(str(path), split={"column": "part"}, duplicates="allow")
    assert [allowed.description.rows[split] for split in SPLITS] == [60, 20, 21]


def test_a_word_that_names_no_split_is_refused_with_its_row(tmp_path: Path, prepare_table: Any) -> None:
    rows = given(some_rows(50))
    rows[9] = ("holdout", *rows[9][1:])
    path = write_csv(tmp_path / "a.csv", rows, ("part", "u", "v", "w", "y"))
    with pytest.raises(InvalidInputError, match=r"a\.csv, row 11, column 'part': 'holdout' does not say"):
        prepare_table(str(path), split={"column": "part"})


def test_an_empty_split_is_refused_with_what_to_change(tmp_path: Path, prepare_table: Any) -> None:
    with pytest.raises(SplitError, match=r"test has no rows; raise data\.split\.test"):
        prepare_table(str(write_csv(tmp_path / "a.csv", some_rows(100))), split={"test": 0.001})


def test_a_class_that_train_lacks_is_named(tmp_path: Path, prepare_table: Any) -> None:
    rows = [(*row[:3], "rare" if i > 90 else row[3]) for i, row in enumerate(some_rows(100))]
    rows = [("test" if i > 85 else "val" if i > 70 else "train", *row) for i, row in enumerate(rows)]
    path = write_csv(tmp_path / "a.csv", rows, ("part", "u", "v", "w", "y"))
    with pytest.raises(SplitError, match="class 'rare' of 'y' has no row in train"):
        prepare_table(str(path), split={"column": "part"})


def test_the_same_source_gives_the_same_bytes(tmp_path: Path, prepare_table: Any) -> None:
    path = str(write_csv(tmp_path / "a.csv", some_rows(500)))
    one, other = prepare_table(path), prepare_table(path)
    for file in one.directory.iterdir():
        assert file.read_bytes() == (other.directory / file.name).read_bytes()
