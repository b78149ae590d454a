"""The budget applied: the smallest candidate inside it wins, and every other one is told why not and by how much."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from windlass.errors import EXIT_OVER_BUDGET, EXIT_TEST_OVER_BUDGET
from windlass.evaluation.config import BudgetConfig, EvaluateConfig
from windlass.evaluation.documents import (
    MEASUREMENT_NAME,
    CandidateVerdict,
    Evaluation,
    Interval,
    Latency,
    Measurement,
    Miss,
    TestResult,
    Verdict,
)
from windlass.evaluation.quality import paired_drop, read_predictions
from windlass.schema import format_size
from windlass.tasks import get_task

_ROUNDING = 1e-9
"""0.99 - 0.98 is more than 0.01 in binary; nobody shall lose by that."""


@dataclass(frozen=True)
class _Limit:
    """How a limit of the budget is spoken of, and what counts as one whole in its unit."""

    label: str
    unit: str
    lower_bound: bool = False

    def shown(self, value: float) -> str:
        if self.unit == "bytes":
            return format_size(value)
        return f"{value:.3g} ms" if self.unit == "ms" else f"{value:.4f}"

    def excess(self, miss: Miss) -> float:
        return miss.allowed - miss.measured if self.lower_bound else miss.measured - miss.allowed

    def relative_excess(self, miss: Miss) -> float:
        """For comparing misses of different limits; quality is counted in hundredths where nothing is allowed."""
        return self.excess(miss) / max(abs(miss.allowed), 0.01)

    def enough(self, miss: Miss) -> str:
        """The nearest round value of the limit that this measurement keeps, as a recipe writes it."""
        if self.unit == "bytes":
            for unit, factor in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
                if miss.measured >= factor:
                    return f"{_round_up(miss.measured / factor):g}{unit}"
        if self.lower_bound:
            return f"{math.floor(miss.measured * 1000) / 1000:g}"
        return f"{_round_up(miss.measured):g}"


_LIMITS = {
    "max_quality_drop": _Limit("drop", "quality"),
    "min_quality": _Limit("quality", "quality", lower_bound=True),
    "max_size": _Limit("size", "bytes"),
    "max_latency_p50_ms": _Limit("p50 latency", "ms"),
    "max_latency_p95_ms": _Limit("p95 latency", "ms"),
    "max_memory": _Limit("memory", "bytes"),
}


def select_candidate(evaluation: Evaluation, budget: BudgetConfig, *, task: str) -> Verdict:
    """Choose by the figures on validation. Test is not read here.

    Returns:
        A verdict without test results: exit code 0 and a winner, or exit code 3 and none.
    """
    drops = {comparison.candidate: comparison.drop.point for comparison in evaluation.comparisons}
    misses = {
        measurement.candidate: _misses(measurement, drops.get(measurement.candidate, 0.0), budget)
        for measurement in evaluation.measurements
    }
    fitting = [measurement for measurement in evaluation.measurements if not misses[measurement.candidate]]
    if not fitting:
        return _nobody_fits(evaluation, budget, misses, task)
    winner = min(fitting, key=lambda m: (m.size_bytes, _latency(m, budget).p50_ms))
    sentence = f"{winner.candidate} was chosen: with {format_size(winner.size_bytes)} it is {_rank(fitting)}."
    return Verdict(
        exit_code=0,
        sentence=sentence,
        winner=winner.candidate,
        candidates=tuple(
            CandidateVerdict(
                candidate=measurement.candidate,
                fits=not misses[measurement.candidate],
                misses=misses[measurement.candidate],
                reason=sentence
                if measurement is winner
                else _reason(measurement, misses[measurement.candidate], winner, budget),
            )
            for measurement in evaluation.measurements
        ),
        test=(),
        test_drop=None,
        test_reads=0,
    )


def judge_test(
    verdict: Verdict,
    directories: Sequence[Path],
    budget: BudgetConfig,
    *,
    task: str,
    config: EvaluateConfig,
    reads: int,
) -> Verdict:
    """Add what the test split says of the winner; chosen is chosen, but the alias may have to stay.

    Args:
        verdict: of `select_candidate`, with a winner.
        directories: what `measure` wrote on test, of the winner and of the uncompressed model.
        reads: how many selections have read this dataset's test split, this one included.

    Returns:
        The verdict with exit code 4 where an interval on test lies wholly beyond a limit, else with its own.
    """
    measurements = {directory: Measurement.read(directory / MEASUREMENT_NAME) for directory in directories}
    by_name = {measurement.candidate: directory for directory, measurement in measurements.items()}
    assert verdict.winner is not None
    chosen = by_name[verdict.winner]
    uncompressed = next((path for name, path in by_name.items() if name != verdict.winner), chosen)
    answers, targets = read_predictions(chosen)
    base, _ = read_predictions(uncompressed)
    drop = paired_drop(get_task(task), base, answers, targets, config)
    quality = measurements[chosen].quality[get_task(task).metric]
    problem = _beyond(drop, quality, budget)
    results = [
        TestResult(candidate=m.candidate, rows=m.rows, quality=m.quality, mistakes=m.mistakes)
        for m in measurements.values()
    ]
    update: dict[str, object] = {"test": tuple(results), "test_drop": drop, "test_reads": reads}
    if problem is not None:
        sentence = f"{verdict.sentence} But on test {problem}: it is registered without alias."
        update |= {"exit_code": EXIT_TEST_OVER_BUDGET, "sentence": sentence}
    return verdict.model_copy(update=update)


def _beyond(drop: Interval, quality: Interval, budget: BudgetConfig) -> str | None:
    if budget.max_quality_drop is not None and drop.low > budget.max_quality_drop + _ROUNDING:
        return f"its drop is {_interval(drop)}, wholly above the limit of {budget.max_quality_drop:g}"
    if budget.min_quality is not None and quality.high < budget.min_quality - _ROUNDING:
        return f"its quality is {_interval(quality)}, wholly below the limit of {budget.min_quality:g}"
    return None


def _interval(interval: Interval) -> str:
    return f"{interval.point:.4f} ({interval.low:.4f} to {interval.high:.4f})"


def _latency(measurement: Measurement, budget: BudgetConfig) -> Latency:
    return next(latency for latency in measurement.latency if latency.batch_size == budget.batch_size)


def _misses(measurement: Measurement, drop: float, budget: BudgetConfig) -> tuple[Miss, ...]:
    latency = _latency(measurement, budget)
    measured = {
        "max_quality_drop": drop,
        "min_quality": measurement.quality[measurement.metric].point,
        "max_size": measurement.size_bytes,
        "max_latency_p50_ms": latency.p50_ms,
        "max_latency_p95_ms": latency.p95_ms,
        "max_memory": measurement.memory.peak_bytes,
    }
    allowed = {name: getattr(budget, name) for name in _LIMITS}
    found = [
        Miss(limit=name, allowed=allowed[name], measured=measured[name])
        for name in _LIMITS
        if allowed[name] is not None
    ]
    return tuple(miss for miss in found if _LIMITS[miss.limit].excess(miss) > _ROUNDING * max(1.0, abs(miss.allowed)))


def _rank(fitting: Sequence[Measurement]) -> str:
    if len(fitting) == 1:
        return "the only candidate inside the budget"
    return f"the smallest of the {len(fitting)} candidates inside the budget"


def _reason(measurement: Measurement, misses: Sequence[Miss], winner: Measurement, budget: BudgetConfig) -> str:
    if misses:
        return f"{measurement.candidate} is outside the budget: {_told(misses)}."
    larger = measurement.size_bytes - winner.size_bytes
    if larger:
        times = measurement.size_bytes / winner.size_bytes
        return (
            f"{measurement.candidate} fits, but is {format_size(larger)} larger than {winner.candidate}, "
            f"{times:.1f} times its size."
        )
    slower_ms = _latency(measurement, budget).p50_ms - _latency(winner, budget).p50_ms
    return f"{measurement.candidate} fits and is as small as {winner.candidate}, but {slower_ms:.3g} ms slower."


def _told(misses: Sequence[Miss]) -> str:
    parts = []
    for miss in misses:
        limit = _LIMITS[miss.limit]
        side = "below the least" if limit.lower_bound else "over the most"
        by = limit.shown(limit.excess(miss))
        parts.append(f"{limit.label} {limit.shown(miss.measured)} is {by} {side} allowed {limit.shown(miss.allowed)}")
    return "; ".join(parts)


def _nobody_fits(
    evaluation: Evaluation, budget: BudgetConfig, misses: dict[str, tuple[Miss, ...]], task: str
) -> Verdict:
    sentence = f"No candidate is inside the budget, nothing was registered. {_cheapest_change(misses, task)}"
    return Verdict(
        exit_code=EXIT_OVER_BUDGET,
        sentence=sentence,
        winner=None,
        candidates=tuple(
            CandidateVerdict(
                candidate=measurement.candidate,
                fits=False,
                misses=misses[measurement.candidate],
                reason=_reason(measurement, misses[measurement.candidate], measurement, budget),
            )
            for measurement in evaluation.measurements
        ),
        test=(),
        test_drop=None,
        test_reads=0,
    )


def _cheapest_change(misses: dict[str, tuple[Miss, ...]], task: str) -> str:
    """What would have to change: one limit if that is enough for somebody, else all limits of the closest one."""

    def cost(item: tuple[str, tuple[Miss, ...]]) -> tuple[int, float]:
        return len(item[1]), max(_LIMITS[miss.limit].relative_excess(miss) for miss in item[1])

    candidate, missed = min(misses.items(), key=cost)
    changes = " and ".join(f"budget.{miss.limit}={_LIMITS[miss.limit].enough(miss)}" for miss in missed)
    quality = any(miss.limit in ("min_quality", "max_quality_drop") for miss in missed)
    train = f" More training may also raise its {get_task(task).metric}." if quality else ""
    return f"The smallest change that lets one in: {changes}, then {candidate} fits.{train}"


def _round_up(value: float) -> float:
    """To two digits, upwards: 0.0123 becomes 0.013, 61.2 becomes 62."""
    if value <= 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.ceil(value / step - 1e-9) * step
