"""What was asked of the version: each limit of the budget, and how much of it one candidate takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from windlass.evaluation.config import BudgetConfig
from windlass.evaluation.limits import NO_DROP, Figures, Limit, Unit, limits_of
from windlass.evaluation.report.facts import Facts
from windlass.evaluation.report.text import figure, joules, metric_name, milliseconds
from windlass.schema import format_size

_SHOWN: Mapping[Unit, Callable[[float], str]] = {
    "bytes": format_size,
    "ms": milliseconds,
    "J": joules,
    "quality": figure,
    "rows/s": lambda value: f"{value:,.0f}",
}


@dataclass(frozen=True)
class Asked:
    """One limit as people read it, and the figure of the candidate that is held against it."""

    label: str
    allowed: str
    measured: str
    kept: bool
    used: float | None
    """Share of what is allowed, for a limit from above; None for one from below."""


def limits(facts: Facts) -> list[Limit]:
    """Those of the recipe's budget."""
    return limits_of(_budget(facts), facts.uncompressed.quality[facts.metric].point)


def quality_floor(facts: Facts) -> float | None:
    """The worst quality that the budget allows a candidate, by its point; None without such a limit."""
    sign, floors = 1 if facts.higher_is_better else -1, []
    worst = "min" if facts.higher_is_better else "max"
    for limit in limits(facts):
        if limit.key == "max_quality_drop":
            floors.append(facts.uncompressed.quality[facts.metric].point - sign * limit.allowed)
        elif limit.key in ("min_quality", f"metrics.{facts.metric}.{worst}"):
            floors.append(limit.allowed)
    return max(floors, key=lambda floor: sign * floor) if floors else None


def asked(facts: Facts, candidate: str) -> list[Asked]:
    """Every limit against the figures of one candidate."""
    budget, judged = _budget(facts), facts.judged
    measurement = next(each for each in judged.measurements if each.candidate == candidate)
    drop = next((each.drop for each in judged.comparisons if each.candidate == candidate), NO_DROP)
    found = Figures(measurement, budget.batch_size, drop)
    return [_row(facts, limit, found, at_bound=budget.confidence is not None) for limit in limits(facts)]


def _budget(facts: Facts) -> BudgetConfig:
    return BudgetConfig.model_validate(facts.recipe.get("budget", {}))


def _row(facts: Facts, limit: Limit, found: Figures, *, at_bound: bool) -> Asked:
    value = limit.figure(found, at_bound=at_bound)
    shown = _SHOWN[limit.unit]
    return Asked(
        label=_label(facts, limit),
        allowed=f"{'at least' if limit.lower else 'at most'} {shown(limit.allowed)}",
        measured=shown(value),
        kept=limit.miss(found, at_bound=at_bound) is None,
        used=max(value, 0.0) / limit.allowed if not limit.lower and limit.allowed > 0 else None,
    )


def _label(facts: Facts, limit: Limit) -> str:
    if limit.key == "max_quality_drop":
        return f"{metric_name(facts.metric)} lost against {facts.evaluation.uncompressed}"
    if limit.unit == "quality":
        return metric_name(facts.metric if limit.key == "min_quality" else limit.label)
    batch = f", batch {facts.batch_size}" if limit.unit in ("ms", "rows/s", "J") else ""
    return f"{'peak memory' if limit.key == 'max_memory' else limit.label}{batch}"
