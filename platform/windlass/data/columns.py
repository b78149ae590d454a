"""Which columns of a table are read, as what, and which are left out and why."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, Literal

from windlass.data.config import ColumnType, DataConfig
from windlass.data.errors import BadFileError, DataError, MissingColumnError
from windlass.data.program import MISSING, NUMBER, Auxiliary, Plan, PlannedColumn
from windlass.data.tables import RawColumn, RawTable

_NUMBER = re.compile(NUMBER)
_NUMBER_SHARE = 0.9
"""From this share of a column's guessed values on it holds numbers, and what is none is a mistake to report."""
_ID_NAME = re.compile(r"(?i)^(.*[_ -])?(id|uuid|guid|index|row(_?(id|number|num))?)$|^unnamed.*$|.*Id$|^column_1$")
_MIN_DISTINCT = 30
_TEXT_SHARE = 0.9
_TEXT_WORDS = 4


class TargetNotNamedError(DataError):
    """No target is named."""

    def __init__(self, columns: Sequence[str]) -> None:
        super().__init__(f"data.target: is needed: the column to predict; columns: {', '.join(columns[:20])}")


def plan_columns(
    config: DataConfig,
    table: RawTable,
    sample: Sequence[Sequence[Any]],
    target_kind: Literal["class", "number"],
    carry: Sequence[str] = (),
) -> Plan:
    """Decide from the first rows what each column is.

    Args:
        carry: columns to be written even where the recipe leaves them out of the features.
        sample: rows of values in the order of `table.columns`, numbers as floats, all else as text or None.

    Raises:
        DataError: the recipe names a column that is not there, or one column for two uses.
    """
    target_name = _target_name(config, table)
    _check_names(config, table, target_name, carry)
    positions = {column.name: index for index, column in enumerate(table.columns)}
    auxiliary = _auxiliary(config, table, positions)
    if auxiliary and auxiliary.column.name == target_name:
        raise DataError(f"data.split.{auxiliary.way}: {target_name!r} is the target; split by another column")
    dropped = dict.fromkeys(config.drop, "named in data.drop") | dict.fromkeys(table.nested, "holds lists or objects")
    if auxiliary:
        dropped.setdefault(auxiliary.column.name, "the rows are split by it")
    features, carried = list[PlannedColumn](), list[PlannedColumn]()
    by_column = list(zip(*sample, strict=True)) or [()] * len(table.columns)
    for column, values in zip(table.columns, by_column, strict=True):
        if column.name == target_name:
            continue
        type_ = config.columns.get(column.name) or guess_type(column, values)
        planned = PlannedColumn(column.name, positions[column.name], type_, column.stored)
        if column.name in dropped:
            carried += [planned] if column.name in carry else []
            continue
        reason = None if column.name in config.columns else why_useless(column, type_, values)
        if reason is not None:
            dropped[column.name] = reason
        else:
            features.append(planned)
    index = positions[target_name]
    target_type: ColumnType = "number" if target_kind == "number" else "category"
    target = PlannedColumn(target_name, index, target_type, table.columns[index].stored)
    return Plan(tuple(features), target, target_kind, auxiliary, dropped, tuple(carried))


def guess_type(column: RawColumn, values: Sequence[Any]) -> ColumnType:
    """A number if nearly all values that are there are numbers; else a category."""
    if column.stored == "number":
        return "number"
    if column.stored != "text":
        return "category"
    present = [value for value in values if not is_missing_text(value)]
    numbers = sum(_NUMBER.match(value) is not None for value in present)
    return "number" if present and numbers >= _NUMBER_SHARE * len(present) else "category"


def why_useless(column: RawColumn, type_: ColumnType, values: Sequence[Any]) -> str | None:
    """Why a column can say nothing about other rows: it numbers the rows, or is free text."""
    present = [value for value in values if not is_missing_text(value)]
    distinct = set(present)
    if len(distinct) < _MIN_DISTINCT:
        return None
    if type_ == "number":
        return _why_numbering(column, present) if len(distinct) == len(present) else None
    if len(distinct) < _TEXT_SHARE * len(present):
        return None
    words = sum(len(str(value).split()) for value in present) / len(present)
    return "free text" if words >= _TEXT_WORDS else "id-like: nearly every row has a value of its own"


def is_missing_text(value: Any) -> bool:
    """Whether a value of a file means that there is none, in a column of numbers or a target."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or value.strip().lower() in MISSING


def number_of(value: Any) -> float | None:
    """The number that a value stands for, None if it stands for none."""
    if isinstance(value, str):
        return float(value) if _NUMBER.match(value) else None
    return None if value is None or math.isnan(value) else float(value)


def _why_numbering(column: RawColumn, present: Sequence[Any]) -> str | None:
    numbers = [number for number in map(number_of, present) if number is not None]
    if not all(math.isfinite(number) and number == math.floor(number) for number in numbers):
        return None
    if _ID_NAME.match(column.name):
        return "id-like: whole numbers, each once, in a column named like an id"
    if numbers == [numbers[0] + step for step in range(len(numbers))]:
        return "id-like: it counts the rows"
    return None


def _target_name(config: DataConfig, table: RawTable) -> str:
    if config.target is not None:
        return config.target
    if table.kind != "memory":
        raise TargetNotNamedError(table.names)
    return "target"


def _check_names(config: DataConfig, table: RawTable, target: str, carry: Sequence[str]) -> None:
    names = table.names
    if target in table.nested:
        raise BadFileError(table.place, f"column {target!r} holds lists or objects and cannot be the target")
    wanted = [("data.target", target)]
    wanted += [(f"data.columns.{name}", name) for name in config.columns]
    wanted += [("data.drop", name) for name in config.drop]
    split = {"group": config.split.group, "time": config.split.time, "column": config.split.column}
    wanted += [("evaluate.sensitive", name) for name in carry]
    wanted += [(f"data.split.{way}", name) for way, name in split.items() if name is not None]
    for key, name in wanted:
        if name not in names and not (key == "data.drop" and name in table.nested):
            raise MissingColumnError(key, name, table.place, names)
    for name in carry:
        if name == target or name in table.nested:
            what = "is the target" if name == target else "holds lists or objects"
            raise DataError(f"evaluate.sensitive: {name!r} {what}; name a column whose values say a row's group")
    if target in config.drop:
        raise DataError(f"data.drop: {target!r} is the target; take it out of the list")


def _auxiliary(config: DataConfig, table: RawTable, positions: dict[str, int]) -> Auxiliary | None:
    ways: tuple[Literal["group", "time", "column"], ...] = ("group", "time", "column")
    for way in ways:
        name = getattr(config.split, way)
        if name is not None:
            index = positions[name]
            return Auxiliary(PlannedColumn(name, index, "category", table.columns[index].stored), way)
    return None
