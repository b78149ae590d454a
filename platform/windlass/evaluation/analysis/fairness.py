"""How differently groups of people fare: rates by group and their differences.

Demographic parity and equalized odds as Hardt, Price and Srebro (2016), "Equality of opportunity in supervised
learning", define them; differences are largest minus smallest over the groups, as in fairlearn, against which the
tests check them. Of more than two classes each is taken against the rest, and the worst one is shown.

Shapes: N rows of the sample, G groups, C classes, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from windlass.data.description import Column
from windlass.evaluation.analysis.documents import Fairness, GroupFairness, GroupRates
from windlass.evaluation.analysis.errors import SensitiveColumnAbsentError
from windlass.evaluation.analysis.groups import Group, groups_of_column
from windlass.evaluation.analysis.sample import Array
from windlass.evaluation.analysis.subject import Subject
from windlass.evaluation.documents import Interval

_LEAST_ROWS = 10
_MAX_GROUPS = 20
_RateName = Literal["selection_rate", "true_positive_rate", "false_positive_rate"]


def fairness(subject: Subject, columns: Sequence[str], reference: pa.Table | None) -> tuple[Fairness, ...]:
    """By each sensitive column; numbers are cut at the quartiles of train.

    Raises:
        SensitiveColumnAbsentError: the bundle does not carry such a column.
    """
    return tuple(_by_column(subject, _find(subject, name), reference) for name in columns)


def _find(subject: Subject, name: str) -> Column:
    carried = {column.name: column for column in subject.sample.description.columns if column.role != "target"}
    if name not in carried:
        raise SensitiveColumnAbsentError(name, list(carried))
    return carried[name]


def _by_column(subject: Subject, column: Column, reference: pa.Table | None) -> Fairness:
    assert reference is not None
    found = list(groups_of_column(subject.sample.table, column, reference))
    groups = sorted((g for g in found if g.mask.sum() >= _LEAST_ROWS), key=lambda g: -int(g.mask.sum()))
    kept = set(map(id, groups[:_MAX_GROUPS]))
    groups = [group for group in found if id(group) in kept]
    compare = _compare_classes if subject.task.target_kind == "class" else _compare_numbers
    return Fairness(
        column=column.name,
        is_feature=column.role == "feature",
        left_out=len(subject.sample) - sum(int(group.mask.sum()) for group in groups),
        by_variant={name: compare(subject, name, groups) for name in subject.answers},
    )


def _compare_classes(subject: Subject, variant: str, groups: Sequence[Group]) -> GroupFairness:
    names = subject.sample.description.class_names
    assert names is not None
    classes = range(1, 2) if len(names) == 2 else range(len(names))
    outcomes = [_Outcome.of(subject, variant, positive) for positive in classes]
    worst = max(outcomes, key=lambda outcome: np.nan_to_num(_equalized_odds(outcome.points(groups)), nan=-1))
    points, samples = worst.points(groups), worst.samples(subject, groups)
    interval = subject.bootstrap.interval
    rates = [
        {name: _defined(subject, points[name][g], samples[name][g]) for name in points} for g in range(len(groups))
    ]
    return GroupFairness(
        positive_class=names[worst.positive],
        groups=tuple(
            GroupRates(
                group=_name(group),
                rows=int(group.mask.sum()),
                accuracy=_mean(subject, 1 - subject.errors[variant], group),
                **rate,
            )
            for group, rate in zip(groups, rates, strict=True)
        ),
        demographic_parity_difference=interval(
            float(_spread(points["selection_rate"])), _spread(samples["selection_rate"])
        )
        if len(groups) > 1
        else None,
        equalized_odds_difference=interval(float(_equalized_odds(points)), _equalized_odds(samples))
        if len(groups) > 1 and np.isfinite(_equalized_odds(points))
        else None,
    )


@dataclass(frozen=True)
class _Outcome:
    """One class against the rest: which rows are of it, and which are answered with it, float64 [N]."""

    positive: int
    actual: Array
    selected: Array

    @classmethod
    def of(cls, subject: Subject, variant: str, positive: int) -> _Outcome:
        answered_N = subject.answers[variant].argmax(axis=1)
        actual_N = subject.sample.targets
        return cls(positive, (actual_N == positive).astype(np.float64), (answered_N == positive).astype(np.float64))

    def points(self, groups: Sequence[Group]) -> dict[_RateName, Array]:
        """Each rate of each group: [G]; NaN where a group has no row to count over."""
        with np.errstate(invalid="ignore"):
            return {
                name: np.array([np.dot(self.selected, over_N) / over_N.sum() for over_N in self._over(name, groups)])
                for name in _RATES
            }

    def samples(self, subject: Subject, groups: Sequence[Group]) -> dict[_RateName, Array]:
        """The same on each resample: [G, R]."""
        return {
            name: np.array([subject.mean_by_resample(self.selected, over_N) for over_N in self._over(name, groups)])
            for name in _RATES
        }

    def _over(self, name: _RateName, groups: Sequence[Group]) -> list[Array]:
        counted_N = {
            "selection_rate": np.ones(len(self.actual)),
            "true_positive_rate": self.actual,
            "false_positive_rate": 1 - self.actual,
        }[name]
        return [group.mask * counted_N for group in groups]


_RATES: tuple[_RateName, ...] = ("selection_rate", "true_positive_rate", "false_positive_rate")


def _spread(rates_G: Array) -> Array:
    """Largest minus smallest over the groups, of [G] or [G, R]; groups without a rate are left out."""
    defined_G = np.isfinite(rates_G)
    largest = np.where(defined_G, rates_G, -np.inf).max(axis=0, initial=-np.inf)
    smallest = np.where(defined_G, rates_G, np.inf).min(axis=0, initial=np.inf)
    spread: Array = np.where(defined_G.any(axis=0), largest - smallest, np.nan)
    return spread


def _equalized_odds(rates: dict[_RateName, Array]) -> Array:
    larger: Array = np.fmax(_spread(rates["true_positive_rate"]), _spread(rates["false_positive_rate"]))
    return larger


def _compare_numbers(subject: Subject, variant: str, groups: Sequence[Group]) -> GroupFairness:
    signed_N = subject.answers[variant].astype(np.float64) - subject.sample.targets
    points_G = np.array([signed_N[group.mask].mean() for group in groups])
    samples_GR = np.array([subject.mean_by_resample(signed_N, group.mask) for group in groups])
    return GroupFairness(
        positive_class=None,
        groups=tuple(
            GroupRates(
                group=_name(group),
                rows=int(group.mask.sum()),
                mean_error=_mean(subject, signed_N, group),
                absolute_error=_mean(subject, subject.errors[variant], group),
            )
            for group in groups
        ),
        mean_error_difference=subject.bootstrap.interval(float(_spread(points_G)), _spread(samples_GR))
        if len(groups) > 1
        else None,
    )


def _mean(subject: Subject, values_N: Array, group: Group) -> Interval:
    sample_R = subject.mean_by_resample(values_N, group.mask)
    return subject.bootstrap.interval(float(values_N[group.mask].mean()), sample_R)


def _defined(subject: Subject, point: float, sample_R: Array) -> Interval | None:
    return subject.bootstrap.interval(float(point), sample_R) if np.isfinite(point) else None


def _name(group: Group) -> str:
    condition = group.condition
    return condition.value if condition.value is not None else condition.text.removeprefix(f"{condition.column} ")
