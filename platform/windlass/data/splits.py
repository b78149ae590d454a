"""The split of each row, as one SQL expression over the staged table: exact shares, no sort of the rows."""

# ruff: noqa: S608 - no text of a user enters SQL other than as a quoted literal

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from windlass.data import program
from windlass.data.config import SplitConfig
from windlass.data.engine import Engine
from windlass.data.errors import SplitError
from windlass.data.program import Plan

_BEYOND_ALL_KEYS = program.quote("g")
"""Greater than any hex text."""


def staging(config: SplitConfig, plan: Plan, source: str) -> str:
    """The staging query of a table that is divided."""
    query = program.staging(plan, source)
    return program.with_split_key(query, config.seed, plan.auxiliary) if _is_by_key(plan) else query


def _is_by_key(plan: Plan) -> bool:
    """Whether rows are divided by a hash, and not by a column of theirs."""
    return plan.auxiliary is None or plan.auxiliary.way == "group"


def split_expression(config: SplitConfig, plan: Plan, engine: Engine, relation: str) -> str:
    """`train`, `validation` or `test` of a row of `relation`.

    Rows are ordered by a hash of their content (or of their group) and the seed; of each class the first go to test,
    the next to validation. The bounds come from a histogram of the hashes' first digits and then the hashes of the
    bins in which the bounds lie. A time split bounds the time itself: the last go to test.
    """
    if _is_by_key(plan):
        stratified = plan.target_kind == "class" and plan.auxiliary is None
        bounds = _bounds(config, engine, relation, "target" if stratified else "CAST(NULL AS STRING)")
        return program.splits_by_bounds(bounds)
    assert plan.auxiliary is not None
    if plan.auxiliary.way == "time":
        return _by_time(config, engine, relation)
    return "auxiliary"


def _bounds(config: SplitConfig, engine: Engine, relation: str, stratum: str) -> Mapping[str | None, tuple[str, str]]:
    histogram: dict[str | None, dict[str, int]] = defaultdict(dict)
    for name, digits, count in engine.rows(program.key_histogram(stratum, relation)):
        histogram[name][digits] = count
    places: dict[str | None, list[tuple[str, int] | None]] = {}
    for name, bins in histogram.items():
        rows = sum(bins.values())
        test = round(rows * config.test)
        places[name] = [_bin_of(bins, test), _bin_of(bins, test + round(rows * config.validation))]
    wanted = sorted(
        {(n, p[0]) for n, pair in places.items() for p in pair if p}, key=lambda item: (item[0] or "", item[1])
    )
    keys: dict[tuple[str | None, str], list[str]] = defaultdict(list)
    if wanted:
        for name, value in engine.rows(program.keys_of_bins(stratum, relation, wanted)):
            keys[name, value[:4]].append(value)
    return {name: (_bound(keys, name, pair[0]), _bound(keys, name, pair[1])) for name, pair in places.items()}


def _bin_of(bins: Mapping[str, int], rank: int) -> tuple[str, int] | None:
    """The bin that holds the key of this rank, from 0, and its rank there; None beyond the last."""
    for digits in sorted(bins):
        if rank < bins[digits]:
            return digits, rank
        rank -= bins[digits]
    return None


def _bound(keys: Mapping[tuple[str | None, str], list[str]], name: str | None, place: tuple[str, int] | None) -> str:
    return _BEYOND_ALL_KEYS if place is None else program.quote(keys[name, place[0]][place[1]])


def _by_time(config: SplitConfig, engine: Engine, relation: str) -> str:
    rows = engine.rows(f"SELECT count(*) FROM {relation} WHERE bad = 0")[0][0]
    test, validation = round(rows * config.test), round(rows * config.validation)
    if min(test, validation, rows - test - validation) <= 0:
        raise SplitError(
            f"{rows:,} rows are too few for shares {config.validation} and {config.test}; raise the shares"
        )
    starts = []
    for offset in (rows - test - validation, rows - test):
        query = f"SELECT auxiliary FROM {relation} WHERE bad = 0 ORDER BY auxiliary LIMIT 1 OFFSET {offset}"
        starts.append(f"CAST({engine.rows(query)[0][0]!r} AS DOUBLE)")
    return (
        f"CASE WHEN auxiliary >= {starts[1]} THEN 'test' WHEN auxiliary >= {starts[0]} THEN 'validation' "
        "ELSE 'train' END"
    )
