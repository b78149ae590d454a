"""The SQL of prepare: text only, for DuckDB, which every engine runs on the rows of a table or of a part of it."""

# ruff: noqa: S608 - no text of a user enters SQL other than as a quoted literal

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from windlass.data.config import ColumnType
from windlass.data.tables import Stored
from windlass.data.totals import Totals

NUMBER = "^ *[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)? *$"
MISSING = ("", "na", "n/a", "nan", "null", "none", "?")
"""What stands for a missing number or target in a text file, in lower case."""
MISSING_TARGET = -1
SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
_DATE = "^[0-9]{4}-[0-9]{2}-[0-9]{2}"
LARGEST = 3.4028234663852886e38
"""Of float32, in which a model is served."""
_SEPARATOR = ", chr(31), "
_DIGITS_53 = "9007199254740992"
_MOST_UBIGINT = "CAST(18446744073709551615 AS UBIGINT)"
_SIGN_BIT = "CAST(9223372036854775808 AS UBIGINT)"


@dataclass(frozen=True)
class PlannedColumn:
    """A column that is read: c`index` of the source, as a number or as text."""

    name: str
    index: int
    type: ColumnType
    stored: Stored

    @property
    def sql(self) -> str:
        return f"c{self.index}"


@dataclass(frozen=True)
class Auxiliary:
    """The column by which rows are split."""

    column: PlannedColumn
    way: Literal["group", "time", "column"]


@dataclass(frozen=True)
class Plan:
    """What is read of a table, and what is left out and why."""

    features: tuple[PlannedColumn, ...]
    target: PlannedColumn
    target_kind: Literal["class", "number"]
    auxiliary: Auxiliary | None
    dropped: Mapping[str, str]
    carried: tuple[PlannedColumn, ...] = ()
    """Left out of the features, but written beside them; they change neither a row's split nor the fingerprint."""

    @property
    def read(self) -> tuple[PlannedColumn, ...]:
        """What a row's digest is made of."""
        return (*self.features, self.target)


def quote(text: str) -> str:
    """A string literal."""
    return "'" + text.replace("'", "''") + "'"


def staging(plan: Plan, source: str) -> str:
    """Typed columns, `target`, `auxiliary`, `bad` (what is wrong with the row, 0 if nothing) and the row's digest.

    `bad` is MISSING_TARGET, or 1 + the position in `plan.read` of the first column that is not the number it should
    be, or 1 + the number of columns read where the splitting column says nothing.
    """
    written = (*plan.features, *plan.carried)
    inner = [f"{_value(column)} AS v{column.index}" for column in written]
    inner.append(f"{_target(plan.target)} AS v{plan.target.index}")
    raw = [f"c{column.index}" for column in plan.read]
    if plan.auxiliary:
        inner.append(f"{_auxiliary(plan.auxiliary)} AS auxiliary")
    checks = [_misfit(column, position) for position, column in enumerate(plan.read, 1) if column.type == "number"]
    checks.append(f"WHEN v{plan.target.index} IS NULL THEN {MISSING_TARGET}")
    if plan.auxiliary:
        checks.append(f"WHEN auxiliary IS NULL THEN {len(plan.read) + 1}")
    outer = [f"v{column.index} AS {column.sql}" for column in written]
    outer += [f"v{plan.target.index} AS target", *(["auxiliary"] if plan.auxiliary else [])]
    outer += [f"CASE {' '.join(checks)} ELSE 0 END AS bad", f"{_digest(plan)} AS digest"]
    read = ", ".join(dict.fromkeys([*inner, *raw]))
    return f"SELECT {', '.join(outer)} FROM (SELECT {read} FROM {source}) AS typed"


def bad_totals(plan: Plan) -> Totals:
    """Rows by `bad`."""
    return Totals(("bad",), most=_kinds_of_bad(plan))


def totals(plan: Plan, max_classes: int) -> Totals:
    """Rows by `bad` and, of good ones, by class; of each the four 32-bit limbs of the digests.

    The limbs' sums over all rows are the same for any order of rows.
    """
    limbs = tuple(f"CAST('0x' || substr(digest, {1 + 8 * i}, 8) AS BIGINT)" for i in range(4))
    stratum = "CASE WHEN bad = 0 THEN target END" if plan.target_kind == "class" else "NULL"
    return Totals(("bad", stratum), limbs, most=max_classes + _kinds_of_bad(plan))


def _kinds_of_bad(plan: Plan) -> int:
    """Values that `bad` can have."""
    return len(plan.read) + 3


def is_time(auxiliary: Auxiliary | None) -> bool:
    """Whether rows are divided by their time."""
    return auxiliary is not None and auxiliary.way == "time"


def with_split_key(staging: str, seed: int, auxiliary: Auxiliary | None) -> str:
    """Staged rows with `key`, hex text by whose order they are divided: equal rows, equal keys.

    It is a hash of the row's content or of its group, or the time itself.
    """
    if is_time(auxiliary):
        return f"SELECT *, {_in_order('auxiliary')} AS key FROM ({staging}) AS unkeyed"
    content = "auxiliary" if auxiliary else "digest"
    return f"SELECT *, md5(concat('{seed}'{_SEPARATOR}{content})) AS key FROM ({staging}) AS unkeyed"


def key_digits(auxiliary: Auxiliary | None) -> int:
    """How long a key is."""
    return 16 if is_time(auxiliary) else 32


def _in_order(x: str) -> str:
    """A double as 16 hex digits whose order is its own: its bits, with the sign turned, or all of a negative one."""
    bits = f"CAST(CAST({x} + 0.0 AS BIT) AS UBIGINT)"  # -0.0 + 0.0 is 0.0
    return (
        f"CASE WHEN {x} < 0 THEN lpad(to_hex({_MOST_UBIGINT} - {bits}), 16, '0') ELSE to_hex({bits} + {_SIGN_BIT}) END"
    )


def is_missing(column: str) -> str:
    return f"({column} IS NULL OR lower(trim({column})) IN ({', '.join(map(quote, MISSING))}))"


def _value(column: PlannedColumn) -> str:
    name = column.sql
    if column.type == "number":
        number = name
        if column.stored != "number":
            number = f"CASE WHEN regexp_matches({name}, '{NUMBER}') THEN TRY_CAST({name} AS DOUBLE) END"
        return f"CASE WHEN abs({number}) <= {LARGEST} THEN {number} END"
    if column.stored == "number":
        # 1.0 and 1 are one category, and no engine prints whole numbers differently
        whole = f"{name} = floor({name}) AND abs({name}) < 1e15"
        text = f"CASE WHEN {whole} THEN CAST(CAST({name} AS BIGINT) AS STRING) ELSE CAST({name} AS STRING) END"
        return f"CASE WHEN abs({name}) <= {LARGEST} THEN {text} END"
    return f"CASE WHEN trim({name}) <> '' THEN {name} END"


def _target(column: PlannedColumn) -> str:
    if column.type == "number" or column.stored == "number":
        return _value(column)
    return f"CASE WHEN NOT {is_missing(column.sql)} THEN trim({column.sql}) END"


def _auxiliary(auxiliary: Auxiliary) -> str:
    name, stored = auxiliary.column.sql, auxiliary.column.stored
    if auxiliary.way == "column":
        cases = (
            f"WHEN lower(trim({name})) IN ({', '.join(map(quote, words))}) THEN {quote(split)}"
            for split, words in SPLIT_WORDS.items()
        )
        return f"CASE {' '.join(cases)} END"
    if auxiliary.way == "group":
        return _value(PlannedColumn(auxiliary.column.name, auxiliary.column.index, "category", stored))
    if stored == "number":
        return f"CASE WHEN abs({name}) <= {LARGEST} THEN {name} END"
    moment = f"CAST(epoch_us(TRY_CAST({name} AS TIMESTAMP)) AS DOUBLE)"
    return (
        f"CASE WHEN regexp_matches({name}, '{NUMBER}') THEN TRY_CAST({name} AS DOUBLE) "
        f"WHEN regexp_matches({name}, '{_DATE}') THEN {moment} END"
    )


def _misfit(column: PlannedColumn, position: int) -> str:
    name, value = column.sql, f"v{column.index}"
    present = f"NOT isnan({name})" if column.stored == "number" else f"NOT {is_missing(name)}"
    return f"WHEN {value} IS NULL AND {name} IS NOT NULL AND {present} THEN {position}"


def _digest(plan: Plan) -> str:
    parts = [
        _exact(f"v{column.index}") if column.type == "number" else f"coalesce(v{column.index}, '')"
        for column in plan.read
    ]
    return f"md5(concat({_SEPARATOR.join(parts)}))"


def _exact(x: str) -> str:
    """A double as whole numbers, for engines print doubles differently.

    To 2^-53: one number below 1,000, above it the whole part and the rest, for no integer is longer than 63 bits.
    Below 2^-20 and from 2^53 on, the exponent of two and 53 digits.
    """
    size = f"abs({x})"
    small = f"CAST(CAST(floor({x} * {_DIGITS_53}) AS BIGINT) AS STRING)"
    rest = f"CAST(floor(({x} - floor({x})) * {_DIGITS_53}) AS BIGINT)"
    medium = f"CAST(CAST(floor({x}) AS BIGINT) AS STRING) || '.' || CAST({rest} AS STRING)"
    exponent = f"floor(log2({size}))"
    digits = f"CAST(floor({x} / power(2.0, {exponent}) * {_DIGITS_53}) AS BIGINT)"
    extreme = f"CAST(CAST({exponent} AS BIGINT) AS STRING) || 'p' || CAST({digits} AS STRING)"
    return (
        f"CASE WHEN {size} >= 9.5367431640625e-07 AND {size} < 1000.0 THEN {small} WHEN {x} IS NULL THEN '' "
        f"WHEN {x} = 0 THEN '0' WHEN {size} >= 1000.0 AND {size} < {_DIGITS_53} THEN {medium} ELSE {extreme} END"
    )


def key_bins(*, stratified: bool, digits: int, within: Sequence[tuple[str, str]] = (), most: int) -> Totals:
    """Good rows by class ('' where one pair of bounds is for all) and by the first digits of their key.

    Args:
        within: only rows of these classes whose keys begin so, all equally long; none: all rows.
    """
    stratum, condition = "target" if stratified else "''", "bad = 0"
    if within:
        listed = ", ".join(f"({quote(name)}, {quote(prefix)})" for name, prefix in within)
        condition += f" AND ({stratum}, substr(key, 1, {len(within[0][1])})) IN ({listed})"
    return Totals((stratum, f"substr(key, 1, {digits})"), condition=condition, most=most)


def splits_by_hash(bounds: Mapping[str, tuple[str, str]], *, stratified: bool) -> str:
    """Keys below the first bound go to test, below the second to validation; bounds per class, or one pair for all."""
    cases = {
        stratum: f"CASE WHEN key < {quote(test)} THEN 'test' WHEN key < {quote(validation)} THEN 'validation' "
        "ELSE 'train' END"
        for stratum, (test, validation) in bounds.items()
    }
    if not stratified:
        return cases[""]
    whens = " ".join(f"WHEN target = {quote(stratum)} THEN ({case})" for stratum, case in cases.items())
    return f"CASE {whens} END"


def splits_by_time(validation: str, test: str) -> str:
    """Keys from the second bound on go to test, from the first on to validation."""
    return (
        f"CASE WHEN key >= {quote(test)} THEN 'test' WHEN key >= {quote(validation)} THEN 'validation' ELSE 'train' END"
    )
