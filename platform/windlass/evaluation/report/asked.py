"""What was asked of the version: each limit of the budget, and how much of it the chosen candidate takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from windlass.evaluation.documents import Evaluation, Measurement
from windlass.evaluation.report.text import figure, joules, metric_name, milliseconds
from windlass.schema import format_size

SETTINGS = frozenset({"batch_size", "confidence", "objective"})
"""Keys of the budget that are no limits."""


@dataclass(frozen=True)
class Asked:
    """One limit as people read it, and the figure of the candidate that is held against it."""

    label: str
    allowed: str
    measured: str
    kept: bool
    used: float | None
    """Share of what is allowed, for a limit from above; None for one from below."""


def quality_floor(budget: Mapping[str, Any], evaluation: Evaluation, *, higher_is_better: bool) -> float | None:
    """The worst quality that the budget allows a candidate, by its point; None without such a limit."""
    base = next(m for m in evaluation.measurements if m.candidate == evaluation.uncompressed)
    sign = 1 if higher_is_better else -1
    floors = []
    if (drop := allowed_drop(budget, base)) is not None:
        floors.append(base.quality[base.metric].point - sign * drop)
    if budget.get("min_quality") is not None:
        floors.append(float(budget["min_quality"]))
    return max(floors, key=lambda floor: sign * floor) if floors else None


def allowed_drop(budget: Mapping[str, Any], uncompressed: Measurement) -> float | None:
    """`max_quality_drop` in the metric's own unit: `2%` is of the uncompressed model's figure."""
    drop = budget.get("max_quality_drop")
    if isinstance(drop, str) and drop.strip().endswith("%"):
        return float(drop.strip()[:-1]) / 100 * abs(uncompressed.quality[uncompressed.metric].point)
    return None if drop is None else float(drop)


def upper_limits(budget: Mapping[str, Any]) -> dict[str, float]:
    """The bounds on costs, by their keys."""
    names = [name for name in budget if name.startswith("max_") and name != "max_quality_drop"]
    return {name: float(budget[name]) for name in names if budget[name] is not None}


def asked(budget: Mapping[str, Any], evaluation: Evaluation, candidate: str) -> list[Asked]:
    """Every limit against the figures of one candidate, in the recipe's order."""
    found = next(m for m in evaluation.measurements if m.candidate == candidate)
    base = next(m for m in evaluation.measurements if m.candidate == evaluation.uncompressed)
    drop = next((c.drop.point for c in evaluation.comparisons if c.candidate == candidate), 0.0)
    rows = []
    batch_size = int(budget.get("batch_size") or 1)
    latency = next((entry for entry in found.latency if entry.batch_size == batch_size), found.latency[0])
    energy = next((e.energy.joules for e in found.cost.per_1000_rows if e.batch_size == batch_size), None)
    batch = f", batch {batch_size}"
    metric = metric_name(found.metric)
    quality = found.quality[found.metric].point
    known: dict[str, tuple[str, float | None, Any]] = {
        "max_quality_drop": (f"{metric} lost against {base.candidate}", drop, figure),
        "min_quality": (metric, quality, figure),
        "max_size": ("size", found.size_bytes, format_size),
        "max_latency_p50_ms": (f"latency p50{batch}", latency.p50_ms, milliseconds),
        "max_latency_p95_ms": (f"latency p95{batch}", latency.p95_ms, milliseconds),
        "max_latency_p99_ms": (f"latency p99{batch}", latency.p99_ms, milliseconds),
        "min_throughput": (f"rows a second{batch}", latency.rows_per_s, lambda value: f"{value:,.0f}"),
        "max_memory": ("peak memory when serving", found.memory.peak_bytes, format_size),
        "max_energy": (f"energy of 1,000 rows{batch}", energy, joules),
    }
    for key, (label, measured, shown) in known.items():
        limit = allowed_drop(budget, base) if key == "max_quality_drop" else budget.get(key)
        if limit is not None and measured is not None:
            rows.append(_row(label, float(limit), measured, shown, lower=key.startswith("min_")))
    for name, bounds in (budget.get("metrics") or {}).items():
        for side in ("min", "max"):
            if bounds.get(side) is not None and name in found.quality:
                measured = found.quality[name].point
                rows.append(_row(metric_name(name), float(bounds[side]), measured, figure, lower=side == "min"))
    return rows


def _row(label: str, limit: float, measured: float, shown: Any, *, lower: bool) -> Asked:
    slack = measured - limit if lower else limit - measured
    share = None if lower else max(measured, 0.0) / limit if limit > 0 else None
    side = "at least" if lower else "at most"
    return Asked(label, f"{side} {shown(limit)}", shown(measured), slack >= -1e-9 * max(1.0, abs(limit)), share)
