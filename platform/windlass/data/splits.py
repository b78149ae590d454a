"""The split of each row, as one SQL expression over the staged table: exact shares, no sort of the rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from windlass.data import program
from windlass.data.checks import MAX_CLASSES
from windlass.data.config import SplitConfig
from windlass.data.engine import Engine
from windlass.data.errors import SplitError
from windlass.data.program import Plan
from windlass.data.totals import Found, Totals

_FIRST_DIGITS = 2
_FIRST_BINS = 1 << 14
"""Counted in each part of a table while it is staged: of 64 classes."""
_BINS = 1 << 12
"""Counted at once later on, unless there are more classes."""
_FEW_KEYS = 100_000
"""Of so many rows every key is looked at."""
_BEYOND_ALL_KEYS = "g"
"""Greater than any hex text."""


def staging(config: SplitConfig, plan: Plan, source: str) -> str:
    """The staging query of a table that is divided."""
    query = program.staging(plan, source)
    return program.with_split_key(query, config.seed, plan.auxiliary) if _has_key(plan) else query


def first_bins(plan: Plan) -> list[Totals]:
    """What `split_expression` wants to have been counted while the table was staged: one thing, or nothing."""
    if not _has_key(plan):
        return []
    return [program.key_bins(stratified=_is_stratified(plan), digits=_FIRST_DIGITS, most=_FIRST_BINS)]


def split_expression(
    config: SplitConfig,
    plan: Plan,
    engine: Engine,
    relation: str,
    classes: Mapping[str, int],
    counted: Sequence[Found],
) -> str:
    """`train`, `validation` or `test` of a row of `relation`.

    Rows are ordered by a hash of their content (or of their group) and the seed; of each class the first go to test,
    the next to validation. A time split orders by the time itself: the last go to test. The keys at the bounds are
    found by how they begin: rows are counted by first digits, then those that begin as a bound does by more digits.

    Args:
        classes: good rows by class; of numbers all are one.
        counted: `first_bins`.
    """
    if not _has_key(plan):
        return "auxiliary"
    strata = classes if _is_stratified(plan) else {"": sum(classes.values())}
    is_by_time = program.is_time(plan.auxiliary)
    ranks = {name: (_ranks_by_time if is_by_time else _ranks)(config, count) for name, count in strata.items()}
    places = [_Place(name, rank) for name, count in strata.items() for rank in ranks[name] if rank < count]
    keys = _keys_at(places, plan, engine, relation, counted[0]) if places else {}
    bounds = {
        name: (keys.get((name, first), _BEYOND_ALL_KEYS), keys.get((name, second), _BEYOND_ALL_KEYS))
        for name, (first, second) in ranks.items()
    }
    if is_by_time:
        return program.splits_by_time(*bounds[""])
    return program.splits_by_hash(bounds, stratified=_is_stratified(plan))


def _has_key(plan: Plan) -> bool:
    """Whether no column of the user's says the split itself."""
    return plan.auxiliary is None or plan.auxiliary.way != "column"


def _is_stratified(plan: Plan) -> bool:
    return plan.target_kind == "class" and plan.auxiliary is None


def _ranks(config: SplitConfig, rows: int) -> tuple[int, int]:
    """The first row that is not of test, and the first of neither test nor validation."""
    test = round(rows * config.test)
    return test, test + round(rows * config.validation)


def _ranks_by_time(config: SplitConfig, rows: int) -> tuple[int, int]:
    """The first row of validation, and the first of test."""
    test, validation = round(rows * config.test), round(rows * config.validation)
    if min(test, validation, rows - test - validation) <= 0:
        raise SplitError(
            f"{rows:,} rows are too few for shares {config.validation} and {config.test}; raise the shares"
        )
    return rows - test - validation, rows - test


@dataclass(frozen=True)
class _Place:
    """A row of a class by its rank, from 0, among those whose keys begin alike."""

    stratum: str
    rank: int
    prefix: str = ""
    rows: int = 0
    """That begin so."""

    def among(self, bins: Mapping[str, int]) -> _Place:
        """The same row, among those of the longer beginning that it has."""
        rank = self.rank
        for prefix in sorted(prefix for prefix in bins if prefix.startswith(self.prefix)):
            if rank < bins[prefix]:
                return _Place(self.stratum, rank, prefix, bins[prefix])
            rank -= bins[prefix]
        raise AssertionError(f"no row {self.rank} of class {self.stratum!r} has a key that begins {self.prefix!r}")


def _keys_at(
    places: Sequence[_Place], plan: Plan, engine: Engine, relation: str, first: Found
) -> dict[tuple[str, int], str]:
    """The keys of rows, by their class and rank.

    Args:
        first: rows by class and the first digits of their key; None: there were too many to be counted.
    """
    found, digits, length, narrowed = first, _FIRST_DIGITS, program.key_digits(plan.auxiliary), list(places)
    if found is None:
        (found,) = engine.totals(relation, [_bins(plan, digits, (), 16**digits * MAX_CLASSES)])
    while True:
        bins = _by_class(found)
        narrowed = [place.among(bins[place.stratum]) for place in narrowed]
        if digits == length:
            return {(place.stratum, place.rank): at.prefix for place, at in zip(places, narrowed, strict=True)}
        within = {(place.stratum, place.prefix): place.rows for place in narrowed}
        digits, most = _further(digits, within, length)
        (found,) = engine.totals(relation, [_bins(plan, digits, sorted(within), most)])


def _bins(plan: Plan, digits: int, within: Sequence[tuple[str, str]], most: int) -> Totals:
    return program.key_bins(stratified=_is_stratified(plan), digits=digits, within=within, most=most)


def _further(digits: int, within: Mapping[tuple[str, str], int], length: int) -> tuple[int, int]:
    """How many digits to count by next, and how many bins that can be."""
    rows = sum(within.values())
    if rows <= _FEW_KEYS:
        return length, rows
    further = 1
    while len(within) * 16 ** (further + 1) <= _BINS and digits + further < length:
        further += 1
    return digits + further, len(within) * 16**further


def _by_class(found: Found) -> dict[str, dict[str, int]]:
    assert found is not None  # no more bins than can be
    bins: dict[str, dict[str, int]] = defaultdict(dict)
    for name, prefix, count in found:
        bins[name][prefix] = count
    return bins
