"""What has to hold of a staged table before it is written; each failure names the file, row and column."""

# ruff: noqa: S608 - no text of a user enters SQL other than as a quoted literal

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from windlass.data.columns import is_missing_text
from windlass.data.config import DataConfig
from windlass.data.description import SPLITS, SplitName
from windlass.data.engine import Engine, Reject
from windlass.data.errors import BadFileError, BadRowError, DuplicatesAcrossSplitsError, SplitError, TargetError
from windlass.data.program import LARGEST, MISSING_TARGET, SPLIT_WORDS, Plan, PlannedColumn
from windlass.data.tables import RawTable, records
from windlass.data.totals import Totals

MAX_CLASSES = 1000
_SHOWN = 5
_DROP_ACTION = "correct the file, or set data.bad_rows: drop"


def refuse_bad_rows(
    config: DataConfig,
    table: RawTable,
    plan: Plan,
    rejects: tuple[int, list[Reject]],
    found: Mapping[int, int],
    *,
    action: str | None = None,
) -> tuple[int, dict[str, int]]:
    """Refuse or count the rows that do not parse or whose target is missing.

    Args:
        rejects: as the engine tells them.
        found: staged rows by what is wrong with them.
        action: what a user can do where the data do not come from a recipe.

    Returns:
        How many rows can be used; reason to count of those that are left out.
    """
    count, first_rejects = rejects
    if count and config.bad_rows == "refuse":
        first = first_rejects[0]
        raise BadRowError(
            file=first.file,
            line=first.line,
            column=first.column,
            reason=first.reason,
            count=count,
            action=action or _DROP_ACTION,
        )
    dropped = {"does not parse": count} if count else {}
    if not found and not count:
        raise BadFileError(table.place, "has a header and no rows; there is nothing to learn from until it has some")
    for code, rows in sorted(found.items(), key=lambda item: (-item[1], item[0])):
        if code == 0:
            continue
        if config.bad_rows == "refuse":
            raise _bad_value(table, plan, code, rows, action)
        dropped[_reason(plan, code)] = rows
    return found.get(0, 0), dropped


def useless_columns(engine: Engine, plan: Plan, staged: str, sample: Sequence[tuple[Any, ...]]) -> dict[str, str]:
    """Columns with one value or none, and why they are left out.

    Args:
        sample: the features of some of the rows, of which most columns' tell that they vary.
    """
    sampled = zip(*sample, strict=True) if sample else [()] * len(plan.features)
    suspects = [column for column, found in zip(plan.features, sampled, strict=True) if len(set(found) - {None}) < 2]
    if not suspects:
        return {}
    counted = engine.totals(staged, [Totals((column.sql,), condition="bad = 0", most=1) for column in suspects])
    found = {}
    for column, values in zip(suspects, counted, strict=True):
        if values is None:
            continue
        value = values[0][0] if values else None
        found[column.name] = "all values are missing" if value is None else f"constant: every value is {value!r}"
    return found


def class_names(plan: Plan, counts: Mapping[str, int] | None, rows: int) -> tuple[str, ...]:
    """The classes: in the order of numbers if all are numbers, else of their texts.

    Args:
        counts: rows of each class; None: of more than can be.
        rows: of all.
    """
    if counts is None:
        raise _too_many_classes(plan, f"more than {MAX_CLASSES:,}", rows)
    names = sorted(counts)
    if len(names) < 2:
        raise TargetError(plan.target.name, f"every row is of class {names[0]!r}; at least two classes are needed")
    if len(names) > MAX_CLASSES:
        raise _too_many_classes(plan, f"more than {MAX_CLASSES:,}", rows)
    if len(names) > 20 and len(names) > rows / 2:
        raise _too_many_classes(plan, f"{len(names):,}", rows)
    try:
        return tuple(sorted(names, key=float))
    except ValueError:
        return tuple(names)


def _too_many_classes(plan: Plan, count: str, rows: int) -> TargetError:
    said = f"has {count} classes in {rows:,} rows; for numbers use task: tabular-regression"
    return TargetError(plan.target.name, said)


def check_splits(
    config: DataConfig,
    target: str,
    rows: Mapping[SplitName, int],
    counts: Mapping[SplitName, Sequence[int]] | None,
    names: Sequence[str] | None,
) -> None:
    """No split is empty, and train has every class.

    Args:
        counts: rows of each class by split, in the order of `names`; None for numbers.
    """
    for split in SPLITS:
        if rows[split] == 0:
            how = "lower the other shares" if split == "train" else f"raise data.split.{split}"
            if config.split.column:
                how = "give it rows"
            raise SplitError(f"{split} has no rows; {how}, or bring more rows")
    for name, count in zip(names or (), (counts or {}).get("train", ()), strict=True):
        if count == 0:
            raise SplitError(
                f"class {name!r} of {target!r} has no row in train; bring more rows of it, or split otherwise"
            )


def duplicates_across_splits(
    config: DataConfig, table: RawTable, plan: Plan, engine: Engine, divided: str
) -> tuple[str, int]:
    """Refuse equal rows in several of the user's splits, or leave all copies out but those of the last split.

    Returns:
        The relation without them, and how many were left out.
    """
    rank = "CASE split WHEN 'train' THEN 0 WHEN 'validation' THEN 1 ELSE 2 END"
    repeated = f"SELECT digest, max({rank}) AS kept FROM {divided} GROUP BY digest HAVING max({rank}) > min({rank})"
    condition = f"EXISTS (SELECT 1 FROM repeated WHERE repeated.digest = divided.digest AND {rank} < kept)"
    engine.keep("repeated", repeated)
    (counted,) = engine.totals(divided, [Totals((), condition=condition)])
    assert counted is not None
    ((count,),) = counted
    if count and config.duplicates == "refuse":
        raise DuplicatesAcrossSplitsError(count, _examples(table, plan))
    return f"(SELECT * FROM {divided} WHERE NOT {condition}) AS divided", count


def _bad_value(table: RawTable, plan: Plan, code: int, count: int, action: str | None) -> BadRowError:
    column = _column_of(plan, code)
    if action is None:
        retype = code > 0 and column.type == "number" and column is not plan.target
        retyped = f"correct the file, set data.columns.{column.name}: category, or set data.bad_rows: drop"
        action = retyped if retype else _DROP_ACTION
    for file, line, row in _all_records(table):
        value = row.get(column.name)
        if _is_bad(plan, code, value):
            reason = "the target is missing" if code == MISSING_TARGET else _why(plan, code, value)
            return BadRowError(file=file, line=line, column=column.name, reason=reason, count=count, action=action)
    return BadRowError(
        file=table.place, line=None, column=column.name, reason=_reason(plan, code), count=count, action=action
    )


def _column_of(plan: Plan, code: int) -> PlannedColumn:
    if code == MISSING_TARGET:
        return plan.target
    if code > len(plan.read):
        assert plan.auxiliary is not None
        return plan.auxiliary.column
    return plan.read[code - 1]


def _is_bad(plan: Plan, code: int, value: Any) -> bool:
    text = value if isinstance(value, str) or value is None else repr(value)
    if code > len(plan.read) and plan.auxiliary is not None and plan.auxiliary.way == "column":
        return text is None or text.strip().lower() not in itertools.chain.from_iterable(SPLIT_WORDS.values())
    if code == MISSING_TARGET or code > len(plan.read):
        return is_missing_text(text) or (code > 0 and not _is_number(text))
    return not is_missing_text(text) and not _is_number(text)


def _is_number(text: str | None) -> bool:
    try:
        return text is not None and abs(float(text)) <= LARGEST and "_" not in text
    except ValueError:
        return False


def _why(plan: Plan, code: int, value: Any) -> str:
    if code > len(plan.read):
        return f"{value!r} does not say how to split the row"
    return f"{str(value)[:80]!r} is not a number of at most {LARGEST:.1e}, as the column's others are"


def _reason(plan: Plan, code: int) -> str:
    if code == MISSING_TARGET:
        return f"target {plan.target.name!r} is missing"
    name = _column_of(plan, code).name
    return f"column {name!r} does not say how to split" if code > len(plan.read) else f"column {name!r} is not a number"


def _all_records(table: RawTable) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    for file in table.files:
        for line, row in records(table, file):
            yield file.name, line, row


def _examples(table: RawTable, plan: Plan) -> list[str]:
    """The first equal rows that stand in different splits, by file and row."""
    assert plan.auxiliary is not None
    names, split_name = [column.name for column in plan.read], plan.auxiliary.column.name
    seen: dict[tuple[Any, ...], tuple[str, str]] = {}
    examples: list[str] = []
    for file, line, row in _all_records(table):
        key, split = tuple(row.get(name) for name in names), str(row.get(split_name)).strip().lower()
        place = f"{file} row {line} ({split})"
        if key in seen and seen[key][0] != split:
            examples.append(f"{seen[key][1]} and {place}")
            if len(examples) == _SHOWN:
                break
        seen.setdefault(key, (split, place))
    return examples
