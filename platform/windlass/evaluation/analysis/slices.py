"""The worst groups of rows, found by the columns' values.

Single conditions and pairs of them, as Chung et al. (2019), "Automated data slicing for model validation", with the
test and the correction stated in `documents.Slices`: each group's error against all other rows, Fisher's exact test
for wrong classes, Welch's for absolute errors, one-sided; Benjamini and Hochberg (1995) over all groups tested.

Shapes: N rows of the sample, S single conditions, B of them whose pairs are tried, T groups tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from windlass.evaluation.analysis.documents import Condition, Slice, Slices
from windlass.evaluation.analysis.groups import Group
from windlass.evaluation.analysis.sample import Array
from windlass.evaluation.analysis.subject import Subject

FALSE_DISCOVERY_RATE = 0.05
_LEAST_ROWS = 20
_LEAST_SHARE = 0.01
_BEAM = 200
"""Single conditions, those with the largest effect, whose pairs with all others are tried."""
_MAX_SHOWN = 10


@dataclass(frozen=True)
class _Sums:
    """Of errors: over the rows of each tested group, and over all rows."""

    rows: Array
    errors: Array
    squares: Array
    all_errors: Array
    """[N], of every row."""

    @classmethod
    def of_one(cls, mask_N: Array, errors_N: Array) -> _Sums:
        """Of a single group."""
        inside = errors_N[mask_N]
        return cls(np.array([len(inside)]), np.array([inside.sum()]), np.array([(inside**2).sum()]), errors_N)


def find_slices(subject: Subject, groups: Sequence[Group], uncompressed: str) -> Slices:
    """The worst groups of each variant.

    Args:
        groups: the single conditions.
        uncompressed: the variant to which each other one's error in a group is compared.
    """
    min_rows = max(_LEAST_ROWS, int(np.ceil(_LEAST_SHARE * len(subject.sample))))
    large = [group for group in groups if min_rows <= group.mask.sum() <= len(subject.sample) - min_rows]
    tested, by_variant = 0, {}
    for name, errors_N in subject.errors.items():
        members, sums = _candidates(large, errors_N, min_rows)
        tested = max(tested, len(members))
        found = _worst(errors_N, large, members, sums, min_rows, exact=subject.task.target_kind == "class")
        by_variant[name] = tuple(_described(subject, name, *group, uncompressed) for group in found)
    return Slices(
        measure="error_rate" if subject.task.target_kind == "class" else "absolute_error",
        min_rows=min_rows,
        tested=tested,
        false_discovery_rate=FALSE_DISCOVERY_RATE,
        by_variant=by_variant,
    )


def _candidates(groups: Sequence[Group], errors_N: Array, min_rows: int) -> tuple[list[tuple[int, ...]], _Sums]:
    """All single conditions, and pairs of the worst ones with any other of another column, by their indices."""
    mask_SN = np.array([group.mask for group in groups], np.float64).reshape(len(groups), len(errors_N))
    rows_S = mask_SN.sum(axis=1)
    sums_S, squares_S = mask_SN @ errors_N, mask_SN @ errors_N**2
    beam_B = np.argsort(-sums_S / np.maximum(rows_S, 1), kind="stable")[:_BEAM]
    rows_BS = mask_SN[beam_B] @ mask_SN.T
    sums_BS, squares_BS = (mask_SN[beam_B] * errors_N) @ mask_SN.T, (mask_SN[beam_B] * errors_N**2) @ mask_SN.T
    beam = set(beam_B.tolist())
    pairs = [
        (position, first, second)
        for position, first in enumerate(beam_B.tolist())
        for second in np.flatnonzero(rows_BS[position] >= min_rows).tolist()
        if groups[first].condition.column != groups[second].condition.column and (first < second or second not in beam)
    ]
    index = tuple(np.array([(position, second) for position, _, second in pairs], int).reshape(-1, 2).T)
    members = [*((single,) for single in range(len(groups))), *((first, second) for _, first, second in pairs)]
    return members, _Sums(
        rows=np.concatenate([rows_S, rows_BS[index]]),
        errors=np.concatenate([sums_S, sums_BS[index]]),
        squares=np.concatenate([squares_S, squares_BS[index]]),
        all_errors=errors_N,
    )


_Found = tuple[tuple[Condition, ...], Array, float]
"""Conditions, mask [N] and corrected p-value."""


def _worst(
    errors_N: Array,
    groups: Sequence[Group],
    members: Sequence[tuple[int, ...]],
    sums: _Sums,
    min_rows: int,
    *,
    exact: bool,
) -> list[_Found]:
    """Those that are worse beyond chance, by the lower bound of how much worse.

    A group that overlaps with those before it is shown only if it is worse without their rows, too.
    """
    from scipy.stats import false_discovery_control

    if not members:
        return []
    p_value_T, bound_T = false_discovery_control(_p_values(sums, exact=exact)), _lower_bounds(sums)
    found: list[_Found] = []
    unseen_N = np.ones(len(errors_N), bool)
    for index in np.argsort(-bound_T, kind="stable").tolist():
        if p_value_T[index] > FALSE_DISCOVERY_RATE:
            continue
        chosen = [groups[member] for member in members[index]]
        mask_N = np.logical_and.reduce([group.mask for group in chosen])
        remaining = _Sums.of_one(mask_N[unseen_N], errors_N[unseen_N])
        too_few = min(remaining.rows[0], unseen_N.sum() - remaining.rows[0]) < min_rows
        if too_few or _p_values(remaining, exact=exact)[0] > FALSE_DISCOVERY_RATE:
            continue
        unseen_N &= ~mask_N
        found.append((tuple(group.condition for group in chosen), mask_N, float(p_value_T[index])))
        if len(found) == _MAX_SHOWN:
            break
    return found


def _described(
    subject: Subject, name: str, conditions: tuple[Condition, ...], mask_N: Array, p_value: float, uncompressed: str
) -> Slice:
    errors_N, bootstrap = subject.errors[name], subject.bootstrap
    inside_R, outside_R = subject.mean_by_resample(errors_N, mask_N), subject.mean_by_resample(errors_N, ~mask_N)
    inside, outside = float(errors_N[mask_N].mean()), float(errors_N[~mask_N].mean())
    added = None
    if name != uncompressed:
        added_N = errors_N - subject.errors[uncompressed]
        added = bootstrap.interval(float(added_N[mask_N].mean()), subject.mean_by_resample(added_N, mask_N))
    return Slice(
        conditions=conditions,
        rows=int(mask_N.sum()),
        error=bootstrap.interval(inside, inside_R),
        rest=outside,
        effect=bootstrap.interval(inside - outside, inside_R - outside_R),
        p_value=p_value,
        added=added,
    )


def _p_values(sums: _Sums, *, exact: bool) -> Array:
    """One-sided: how likely a group is as bad as this, or worse, by chance; without any spread nothing is unlikely."""
    from scipy.stats import hypergeom, ttest_ind_from_stats

    rows_T, total = sums.rows, len(sums.all_errors)
    if exact:
        wrong = round(float(sums.all_errors.sum()))
        # Rounding may carry a probability a hair beyond 1.
        p_value_T: Array = np.clip(hypergeom.sf(sums.errors.round() - 1, total, wrong, rows_T), 0, 1)
        return p_value_T
    mean_T, mean_rest_T, variance_T, variance_rest_T = _moments(sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        test = ttest_ind_from_stats(
            mean_T,
            np.sqrt(variance_T),
            rows_T,
            mean_rest_T,
            np.sqrt(variance_rest_T),
            total - rows_T,
            equal_var=False,
            alternative="greater",
        )
    return np.asarray(np.nan_to_num(test.pvalue, nan=1.0))


def _lower_bounds(sums: _Sums) -> Array:
    """Of the effect, at about 95 %: what a group is ranked by, so that few rows have to be very bad."""
    mean_T, mean_rest_T, variance_T, variance_rest_T = _moments(sums)
    spread_T = np.sqrt(variance_T / sums.rows + variance_rest_T / (len(sums.all_errors) - sums.rows))
    bound_T: Array = mean_T - mean_rest_T - 1.96 * spread_T
    return bound_T


def _moments(sums: _Sums) -> tuple[Array, Array, Array, Array]:
    """Mean inside and outside, and unbiased variance inside and outside."""
    rows_T, others_T = sums.rows, len(sums.all_errors) - sums.rows
    errors_rest_T = sums.all_errors.sum() - sums.errors
    squares_rest_T = (sums.all_errors**2).sum() - sums.squares
    mean_T, mean_rest_T = sums.errors / rows_T, errors_rest_T / others_T
    variance_T = np.maximum(sums.squares - rows_T * mean_T**2, 0) / (rows_T - 1)
    variance_rest_T = np.maximum(squares_rest_T - others_T * mean_rest_T**2, 0) / (others_T - 1)
    return mean_T, mean_rest_T, variance_T, variance_rest_T
