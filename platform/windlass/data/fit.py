"""Transforms and their fitted numbers: from the rows of train, and of no other split."""

# ruff: noqa: S608 - no text of a user enters SQL other than as a quoted literal

from __future__ import annotations

from collections.abc import Sequence

from windlass.data.description import CategoryTransform, NumberTransform, TargetTransform, Transform
from windlass.data.engine import Reader
from windlass.data.program import PlannedColumn

MAX_VALUES = 100
MIN_ROWS = 10
_SMALL_TABLE_SHARE = 0.01
_DIGITS = 12


def fit_transforms(reader: Reader, columns: Sequence[PlannedColumn], train: str, rows: int) -> tuple[Transform, ...]:
    """One transform per column, in their order; `train` is the relation of train, of `rows` rows."""
    numbers = [column for column in columns if column.type == "number"]
    moments = _moments(reader, [column.sql for column in numbers], train)
    return tuple(
        _number(column, moments[column.sql]) if column.type == "number" else _category(reader, column, train, rows)
        for column in columns
    )


def fit_target(reader: Reader, target: PlannedColumn, train: str) -> TargetTransform:
    """Mean and standard deviation of a regression's target."""
    _, mean, scale = _moments(reader, [target.sql], train)[target.sql]
    return TargetTransform(mean=mean, scale=scale)


def _moments(reader: Reader, names: Sequence[str], train: str) -> dict[str, tuple[bool, float, float]]:
    """By column: whether values are missing, the mean, and the scale to divide by."""
    if not names:
        return {}
    figures = ", ".join(f"count({name}), avg({name}), stddev_pop({name})" for name in names)
    ((rows, *row),) = reader.rows(f"SELECT count(*), {figures} FROM {train}")
    found = {}
    for i, name in enumerate(names):
        count, mean, deviation = row[3 * i : 3 * i + 3]
        found[name] = (count < rows, _rounded(mean or 0.0), _rounded(deviation or 0.0) or 1.0)
    return found


def _rounded(value: float) -> float:
    # parallel sums differ in their last digits from run to run; a dataset's digest must not
    return float(f"{value:.{_DIGITS}g}")


def _number(column: PlannedColumn, moments: tuple[bool, float, float]) -> NumberTransform:
    missing, mean, scale = moments
    return NumberTransform(column=column.name, mean=mean, scale=scale, missing_indicator=missing)


def _category(reader: Reader, column: PlannedColumn, train: str, rows: int) -> CategoryTransform:
    """The most frequent values, ties in order of the value; what is rare in train shares the output `other`."""
    least = min(MIN_ROWS, max(1, round(rows * _SMALL_TABLE_SHARE)))
    frequent = reader.rows(
        f"SELECT coalesce({column.sql}, ''), count(*) FROM {train} GROUP BY 1 HAVING count(*) >= {least} "
        f"ORDER BY 2 DESC, 1 LIMIT {MAX_VALUES}"
    )
    vocabulary = tuple(sorted(text for text, _ in frequent))
    return CategoryTransform(
        column=column.name, vocabulary=vocabulary, other=sum(count for _, count in frequent) < rows
    )
