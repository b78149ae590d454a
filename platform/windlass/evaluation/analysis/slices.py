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

from windlass.evaluation.analysis.documents import Slice, Slices
from windlass.evaluation.analysis.groups import Group
from windlass.evaluation.analysis.sample import Array
from windlass.evaluation.analysis.subject import Subject

FALSE_DISCOVERY_RATE = 0.05
_LEAST_ROWS = 20
_LEAST_SHARE = 0.01
_BEAM = 200
"""Single conditions, those with the largest effect, whose pairs with all others are tried."""
_MAX_SHOWN = 10
_OVERLAP = 0.5
"""Of two groups that share this part of the smaller one, only the first is shown."""


@dataclass(frozen=True)
class _Candidates:
    """Groups to be tested: one or two of the single conditions, and their sums over the rows."""

    members: list[tuple[int, ...]]
    rows: Array
    sums: Array
    squares: Array


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
        candidates = _candidates(large, errors_N, min_rows)
        tested = max(tested, len(candidates.members))
        by_variant[name] = _worst(subject, name, large, candidates, uncompressed)
    return Slices(
        measure="error_rate" if subject.task.target_kind == "class" else "absolute_error",
        min_rows=min_rows,
        tested=tested,
        false_discovery_rate=FALSE_DISCOVERY_RATE,
        by_variant=by_variant,
    )


def _candidates(groups: Sequence[Group], errors_N: Array, min_rows: int) -> _Candidates:
    """All single conditions, and pairs of the worst ones with any other of another column."""
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
    return _Candidates(
        members=[*((single,) for single in range(len(groups))), *((first, second) for _, first, second in pairs)],
        rows=np.concatenate([rows_S, rows_BS[index]]),
        sums=np.concatenate([sums_S, sums_BS[index]]),
        squares=np.concatenate([squares_S, squares_BS[index]]),
    )


def _worst(
    subject: Subject, name: str, groups: Sequence[Group], candidates: _Candidates, uncompressed: str
) -> tuple[Slice, ...]:
    """Those that are worse beyond chance, by the lower bound of how much worse, without near repetitions."""
    if not candidates.members:
        return ()
    p_value_T = _p_values(candidates, subject.errors[name], exact=subject.task.target_kind == "class")
    bound_T = _lower_bounds(candidates, subject.errors[name])
    order = [i for i in np.argsort(-bound_T, kind="stable").tolist() if p_value_T[i] <= FALSE_DISCOVERY_RATE]
    shown: list[Array] = []
    found: list[Slice] = []
    for index in order:
        members = [groups[member] for member in candidates.members[index]]
        mask_N = np.logical_and.reduce([group.mask for group in members])
        if any((mask_N & other).sum() > _OVERLAP * min(mask_N.sum(), other.sum()) for other in shown):
            continue
        shown.append(mask_N)
        found.append(_described(subject, name, members, mask_N, float(p_value_T[index]), uncompressed))
        if len(found) == _MAX_SHOWN:
            break
    return tuple(found)


def _described(
    subject: Subject, name: str, members: Sequence[Group], mask_N: Array, p_value: float, uncompressed: str
) -> Slice:
    errors_N, bootstrap = subject.errors[name], subject.bootstrap
    inside_R, outside_R = subject.mean_by_resample(errors_N, mask_N), subject.mean_by_resample(errors_N, ~mask_N)
    inside, outside = float(errors_N[mask_N].mean()), float(errors_N[~mask_N].mean())
    added = None
    if name != uncompressed:
        added_N = errors_N - subject.errors[uncompressed]
        added = bootstrap.interval(float(added_N[mask_N].mean()), subject.mean_by_resample(added_N, mask_N))
    return Slice(
        conditions=tuple(group.condition for group in members),
        rows=int(mask_N.sum()),
        error=bootstrap.interval(inside, inside_R),
        rest=outside,
        effect=bootstrap.interval(inside - outside, inside_R - outside_R),
        p_value=p_value,
        added=added,
    )


def _p_values(candidates: _Candidates, errors_N: Array, *, exact: bool) -> Array:
    """One-sided: how likely a group of the rest is as bad as this by chance; corrected for all that were tested."""
    from scipy.stats import false_discovery_control, hypergeom, ttest_ind_from_stats

    rows_T, others_T = candidates.rows, len(errors_N) - candidates.rows
    if exact:
        wrong = int(errors_N.sum())
        p_value_T = hypergeom.sf(candidates.sums.round() - 1, len(errors_N), wrong, rows_T)
    else:
        mean_T, mean_rest_T, variance_T, variance_rest_T = _moments(candidates, errors_N)
        with np.errstate(divide="ignore", invalid="ignore"):
            p_value_T = ttest_ind_from_stats(
                mean_T,
                np.sqrt(variance_T),
                rows_T,
                mean_rest_T,
                np.sqrt(variance_rest_T),
                others_T,
                equal_var=False,
                alternative="greater",
            ).pvalue
    # Rounding may carry a probability a hair beyond 1; without any spread there is nothing to tell apart.
    corrected_T: Array = false_discovery_control(np.clip(np.nan_to_num(p_value_T, nan=1.0), 0, 1))
    return corrected_T


def _lower_bounds(candidates: _Candidates, errors_N: Array) -> Array:
    """Of the effect, at about 95 %: what a group is ranked by, so that few rows have to be very bad."""
    mean_T, mean_rest_T, variance_T, variance_rest_T = _moments(candidates, errors_N)
    rows_T, others_T = candidates.rows, len(errors_N) - candidates.rows
    bound_T: Array = mean_T - mean_rest_T - 1.96 * np.sqrt(variance_T / rows_T + variance_rest_T / others_T)
    return bound_T


def _moments(candidates: _Candidates, errors_N: Array) -> tuple[Array, Array, Array, Array]:
    """Mean inside and outside, and unbiased variance inside and outside."""
    rows_T, others_T = candidates.rows, len(errors_N) - candidates.rows
    sums_rest_T = errors_N.sum() - candidates.sums
    squares_rest_T = (errors_N**2).sum() - candidates.squares
    mean_T, mean_rest_T = candidates.sums / rows_T, sums_rest_T / others_T
    variance_T = np.maximum(candidates.squares - rows_T * mean_T**2, 0) / (rows_T - 1)
    variance_rest_T = np.maximum(squares_rest_T - others_T * mean_rest_T**2, 0) / (others_T - 1)
    return mean_T, mean_rest_T, variance_T, variance_rest_T
