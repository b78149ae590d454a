"""The budget applied: the best candidate inside it wins, and every other one is told why not and by how much."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from windlass.errors import EXIT_OVER_BUDGET, EXIT_TEST_OVER_BUDGET
from windlass.evaluation.config import BudgetConfig, EvaluateConfig, Objective
from windlass.evaluation.documents import (
    MEASUREMENT_NAME,
    BudgetChange,
    CandidateVerdict,
    Evaluation,
    Interval,
    Measurement,
    Miss,
    TestResult,
    Verdict,
)
from windlass.evaluation.limits import NO_DROP, Figures, Limit, Unit, limits_of, misses_of, shown
from windlass.evaluation.quality import Scored
from windlass.tasks import get_task


@dataclass(frozen=True)
class _Goal:
    """What the winner has least of, and the words for it."""

    of: Callable[[Figures], float]
    unit: Unit
    best: str
    """… it is `best` of the candidates inside the budget."""
    worse: str
    """… fits, but `worse` than the winner …"""
    whole: str
    """… 3.0 times `whole`."""
    equal: str
    """… fits and is as `equal` as the winner …"""


_GOALS: Mapping[Objective, _Goal] = {
    "size": _Goal(
        lambda f: f.measurement.size_bytes, "bytes", "the smallest", "is {by} larger than", "its size", "small"
    ),
    "latency": _Goal(lambda f: f.latency.p50_ms, "ms", "the fastest", "is {by} slower than", "its latency", "fast"),
    "memory": _Goal(
        lambda f: f.measurement.memory.peak_bytes,
        "bytes",
        "the leanest",
        "takes {by} more memory than",
        "as much",
        "lean",
    ),
    "energy": _Goal(
        lambda f: f.joules, "J", "the thriftiest", "takes {by} more for 1,000 rows than", "as much", "thrifty"
    ),
}


def select_candidate(evaluation: Evaluation, budget: BudgetConfig, *, task: str) -> Verdict:
    """Choose by the figures on validation. Test is not read here.

    Args:
        evaluation: with intervals of `budget.confidence`, if it is set: see `windlass.evaluation.compare`.

    Returns:
        A verdict without test results: exit code 0 and a winner, or exit code 3 and none.

    Raises:
        UndefinedMetricError: the budget limits a metric that has no value on validation.
    """
    assert budget.confidence in (None, evaluation.confidence)
    drops = {comparison.candidate: comparison.drop for comparison in evaluation.comparisons}
    candidates = {
        measurement.candidate: Figures(measurement, budget.batch_size, drops.get(measurement.candidate, NO_DROP))
        for measurement in evaluation.measurements
    }
    uncompressed = candidates[evaluation.uncompressed].measurement
    limits = limits_of(budget, uncompressed.quality[uncompressed.metric].point)
    at_bound = budget.confidence is not None
    misses = {name: misses_of(figures, limits, at_bound=at_bound) for name, figures in candidates.items()}
    fitting = {name: figures for name, figures in candidates.items() if not misses[name]}
    by_key = {limit.key: limit for limit in limits}
    notes = (*_doubts_about_training(evaluation), *_left_unmeasured(uncompressed))
    if not fitting:
        return _nobody_fits(misses, by_key, (*notes, *_doubts_about_limits(candidates, limits, misses, None)), task)
    goal = _GOALS[budget.objective]
    winner = min(fitting, key=lambda name: (goal.of(fitting[name]), fitting[name].latency.p50_ms))
    of_how_many = f"{goal.best} of the {len(fitting)} candidates" if len(fitting) > 1 else "the only candidate"
    sentence = (
        f"{winner} was chosen: with {shown(goal.of(fitting[winner]), goal.unit)} it is {of_how_many} inside the budget."
    )
    noise = fitting[winner].measurement.noise
    return Verdict(
        exit_code=0,
        sentence=sentence,
        winner=winner,
        candidates=tuple(
            CandidateVerdict(
                candidate=name,
                fits=not misses[name],
                misses=misses[name],
                reason=sentence
                if name == winner
                else _outside(name, misses[name], by_key) or _beaten(name, figures, winner, fitting[winner], goal),
            )
            for name, figures in candidates.items()
        ),
        test=(),
        test_drop=None,
        test_reads=0,
        notes=(
            *notes,
            *([f"{winner}: {noise}"] if noise else []),
            *_doubts_about_limits(candidates, limits, misses, winner),
        ),
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
        The verdict with exit code 4 where an interval on test lies wholly beyond a limit, else with its own and with
        a note where only the point does.
    """
    measurements = {directory: Measurement.read(directory / MEASUREMENT_NAME) for directory in directories}
    by_name = {measurement.candidate: directory for directory, measurement in measurements.items()}
    assert verdict.winner is not None
    chosen = by_name[verdict.winner]
    uncompressed = next((path for name, path in by_name.items() if name != verdict.winner), chosen)
    drop = _drop(uncompressed, chosen, task, config)
    base = measurements[uncompressed].quality[get_task(task).metric]
    problems, doubts = _misses_on_test(
        Figures(measurements[chosen], budget.batch_size, drop), limits_of(budget, base.point)
    )
    results = [
        TestResult(candidate=m.candidate, rows=m.rows, quality=m.quality, mistakes=m.mistakes)
        for m in measurements.values()
    ]
    update: dict[str, object] = {"test": tuple(results), "test_drop": drop, "test_reads": reads}
    if problems:
        sentence = f"{verdict.sentence} But on test {'; '.join(problems)}: it is registered without alias."
        update |= {"exit_code": EXIT_TEST_OVER_BUDGET, "sentence": sentence}
    if doubts:
        update["notes"] = (*verdict.notes, f"On test {verdict.winner} may be outside the budget: {'; '.join(doubts)}.")
    return verdict.model_copy(update=update)


def _drop(uncompressed: Path, chosen: Path, task: str, config: EvaluateConfig) -> Interval:
    """By how much the chosen one is worse in the main metric, paired by row."""
    kind = get_task(task)
    before, after = (Scored.read(kind, directory, config.confidence) for directory in (uncompressed, chosen))
    return before.better_than(after)


def _misses_on_test(figures: Figures, limits: Sequence[Limit]) -> tuple[list[str], list[str]]:
    """The limits of quality that are missed surely, with the whole interval, and those missed with the point alone."""
    surely, perhaps = [], []
    for limit in limits:
        interval = limit.of(figures) if limit.unit == "quality" else None
        if not isinstance(interval, Interval) or limit.miss(figures, at_bound=False) is None:
            continue
        side = "below" if limit.lower else "above"
        found = f"its {limit.label} is {interval.point:.4f} ({interval.low:.4f} to {interval.high:.4f})"
        if limit.wholly_beyond(interval):
            surely.append(f"{found}, wholly {side} the limit of {limit.allowed:.4g}")
        else:
            perhaps.append(f"{found}, {side} the limit of {limit.allowed:.4g}, though not surely")
    return surely, perhaps


def _doubts_about_training(evaluation: Evaluation) -> tuple[str, ...]:
    """The trivial model that the uncompressed one beats by least, if it does not surely beat it."""
    if evaluation.beats_baselines is not False:
        return ()
    metric = evaluation.measurements[0].metric
    best = min(evaluation.baselines, key=lambda baseline: baseline.margin.low)
    quality = {m.candidate: m.quality[m.metric].point for m in evaluation.measurements}[evaluation.uncompressed]
    relation = "is worse than" if best.margin.high < 0 else "is not surely better than"
    return (
        f"{evaluation.uncompressed} {relation} a trivial model ({best.name}): {metric} {quality:.4f} against "
        f"{best.quality[metric].point:.4f}, better by {best.margin.point:.4f} ({best.margin.low:.4f} to "
        f"{best.margin.high:.4f}).",
    )


def _doubts_about_limits(
    candidates: Mapping[str, Figures],
    limits: Sequence[Limit],
    misses: Mapping[str, Sequence[Miss]],
    winner: str | None,
) -> list[str]:
    """Of the winner, and of those that are outside the budget only for a figure that is not known well enough."""
    notes = []
    for name, figures in candidates.items():
        doubts = {limit.key: doubt for limit in limits if (doubt := limit.doubt(figures))}
        missed = {miss.limit for miss in misses[name]}
        if doubts and (name == winner or (missed and missed <= doubts.keys())):
            notes.append(f"{name}: {'; '.join(doubts.values())}.")
    return notes


def _left_unmeasured(uncompressed: Measurement) -> tuple[str, ...]:
    """What figures of a GPU do not say."""
    if uncompressed.device == "cpu":
        return ()
    return ("Measured on a GPU: memory is that of the processes on the host alone, and energy was not measured.",)


def _outside(name: str, misses: Sequence[Miss], limits: Mapping[str, Limit]) -> str:
    """Why a candidate is outside the budget; empty if it is inside."""
    told = "; ".join(limits[miss.limit].told(miss) for miss in misses)
    return f"{name} is outside the budget: {told}." if misses else ""


def _beaten(name: str, figures: Figures, winner: str, best: Figures, goal: _Goal) -> str:
    more = goal.of(figures) - goal.of(best)
    if more:
        times = goal.of(figures) / goal.of(best)
        worse = goal.worse.format(by=shown(more, goal.unit))
        return f"{name} fits, but {worse} {winner}, {times:.1f} times {goal.whole}."
    slower_ms = figures.latency.p50_ms - best.latency.p50_ms
    return f"{name} fits and is as {goal.equal} as {winner}, but {slower_ms:.3g} ms slower."


def _nobody_fits(
    misses: Mapping[str, tuple[Miss, ...]], limits: Mapping[str, Limit], notes: tuple[str, ...], task: str
) -> Verdict:
    def distance(name: str) -> tuple[int, float]:
        return len(misses[name]), max(limits[miss.limit].relative_excess(miss) for miss in misses[name])

    nearest = sorted(misses, key=distance)
    missed = misses[nearest[0]]
    settings = {f"budget.{miss.limit}": limits[miss.limit].enough(miss) for miss in missed}
    change = " and ".join(f"{key}={value}" for key, value in settings.items())
    train = any(limits[miss.limit].unit == "quality" for miss in missed)
    return Verdict(
        exit_code=EXIT_OVER_BUDGET,
        sentence=(
            "No candidate is inside the budget, nothing was registered. "
            f"The smallest change that lets one in: {change}, then {nearest[0]} fits."
            + (f" More training may also raise its {get_task(task).metric}." if train else "")
        ),
        winner=None,
        candidates=tuple(
            CandidateVerdict(candidate=name, fits=False, misses=missed, reason=_outside(name, missed, limits))
            for name, missed in misses.items()
        ),
        test=(),
        test_drop=None,
        test_reads=0,
        notes=notes,
        nearest=tuple(nearest),
        change=BudgetChange(candidate=nearest[0], settings=settings),
    )
