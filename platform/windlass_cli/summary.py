"""What came out of a run, for people and for machines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from rich.console import Console

from windlass.evaluation.config import BudgetConfig
from windlass.evaluation.documents import (
    EVALUATION_NAME,
    REPORT_HTML_NAME,
    VERDICT_NAME,
    CandidateVerdict,
    Evaluation,
    Measurement,
    TestResult,
    Verdict,
)
from windlass.evaluation.limits import Figures
from windlass.recipe.runs import RunRecord, read_recipe, read_run
from windlass.registry.documents import REGISTRATION_NAME, Registration
from windlass.schema import Section, format_size
from windlass.storage import Workspace
from windlass_cli.console import duration, figure, table
from windlass_cli.defaults import DEFAULT_ROOT

FigureName = Literal["latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "rows_per_s", "energy_j", "price"]
_FIGURES: dict[FigureName, tuple[str, Callable[[float], str]]] = {
    "latency_p50_ms": ("p50, batch {batch_size}", lambda value: f"{value:.3f} ms"),
    "latency_p95_ms": ("p95, batch {batch_size}", lambda value: f"{value:.3f} ms"),
    "latency_p99_ms": ("p99, batch {batch_size}", lambda value: f"{value:.3f} ms"),
    "rows_per_s": ("rows/s", lambda value: f"{value:,.0f}"),
    "energy_j": ("J/1,000", lambda value: f"{value:.3g}"),
    "price": ("price/1,000", lambda value: f"{value:.2g}"),
}
"""Heading and form of each figure at the budget's batch size."""


class CandidateRow(Section):
    """One candidate as the table shows it; `fits` and `reason` are there once the budget was applied."""

    candidate: str
    size_bytes: int
    metric: str
    quality: float
    limited_quality: dict[str, float]
    """Of the other metrics that the budget limits."""
    latency_p50_ms: float
    latency_p95_ms: float
    latency_p99_ms: float
    rows_per_s: float
    memory_bytes: int
    """The most while answering."""
    energy_j: float
    """For 1,000 rows."""
    price: float | None
    """For 1,000 rows; None without `evaluate.price_per_hour`."""
    fits: bool | None
    reason: str


class BaselineRow(Section):
    """A trivial model beside the candidates."""

    name: str
    quality: float


class RunSummary(Section):
    """A run's record and what its steps published."""

    run: RunRecord
    batch_size: int
    """At which latencies, `rows_per_s`, energy and price were measured."""
    columns: tuple[FigureName, ...]
    """What the table shows of each candidate beside size, quality and memory: what the budget looks at."""
    candidates: tuple[CandidateRow, ...]
    baselines: tuple[BaselineRow, ...]
    notes: tuple[str, ...]
    """To be read before the figures."""
    winner: str | None
    sentence: str | None
    test: tuple[TestResult, ...]
    registration: Registration | None
    report: str | None
    next: tuple[str, ...]
    """Commands to type next."""


def summarize(workspace: Workspace, run_id: str, *, root: str) -> RunSummary:
    """Read what a run's steps published, as far as it came.

    Raises:
        RunNotFoundError: there is no such run.
    """
    record = read_run(workspace, run_id)
    recipe = read_recipe(workspace, run_id).recipe
    results = {result.step: result for result in record.steps}
    verdict = report = evaluation = None
    if evaluated := results.get("evaluate"):
        evaluation = Evaluation.read(workspace.fetch(evaluated.reference) / EVALUATION_NAME)
    if selected := results.get("select"):
        directory = workspace.fetch(selected.reference)
        verdict, report = Verdict.read(directory / VERDICT_NAME), str(directory / REPORT_HTML_NAME)
    registration = None
    if registered := results.get("register"):
        registration = Registration.read(workspace.fetch(registered.reference) / REGISTRATION_NAME)
    return RunSummary(
        run=record,
        batch_size=recipe.budget.batch_size,
        columns=_columns(recipe.budget, priced=recipe.evaluate.price_per_hour is not None),
        candidates=_candidates(evaluation, verdict, recipe.budget) if evaluation else (),
        baselines=_baselines(evaluation) if evaluation else (),
        notes=verdict.notes if verdict else (),
        winner=verdict.winner if verdict else None,
        sentence=verdict.sentence if verdict else None,
        test=verdict.test if verdict else (),
        registration=registration,
        report=report,
        next=_next(registration, root, recipe.registration.tracking_uri),
    )


def print_summary(console: Console, summary: RunSummary, *, steps: bool = False) -> None:
    """The candidates, the verdict, the version, the report, and what to type next."""
    if steps:
        _print_steps(console, summary.run)
    if summary.candidates:
        console.print()
        console.print(_candidate_table(summary))
    for line in _lines(summary):
        console.print(line, markup=False)


def _print_steps(console: Console, record: RunRecord) -> None:
    rows = [
        (
            result.step,
            "done before" if result.cached else duration(result.seconds),
            "  ".join(f"{name.replace('_', ' ')} {figure(value)}" for name, value in result.summary.items()),
            result.reference.uri,
        )
        for result in record.steps
    ]
    console.print(table(("step", "took", "result", "lies in"), rows))


def _candidate_table(summary: RunSummary) -> object:
    first = summary.candidates[0]
    figures = [_FIGURES[name] for name in summary.columns]
    rows = [
        (
            row.candidate,
            format_size(row.size_bytes),
            f"{row.quality:.4f}",
            *(f"{value:.4f}" for value in row.limited_quality.values()),
            *(shown(getattr(row, name)) for name, (_, shown) in zip(summary.columns, figures, strict=True)),
            format_size(row.memory_bytes),
            f"✓ {row.reason}" if row.candidate == summary.winner else row.reason,
        )
        for row in summary.candidates
    ]
    headings = (
        "candidate",
        "size",
        first.metric,
        *first.limited_quality,
        *(heading.format(batch_size=summary.batch_size) for heading, _ in figures),
        "memory",
        "verdict",
    )
    absent = [""] * (len(headings) - 4)
    rows += [
        (f"({baseline.name})", "", f"{baseline.quality:.4f}", *absent, "a trivial model")
        for baseline in summary.baselines
    ]
    return table(headings, rows, right=frozenset(range(1, len(headings) - 1)))


def _lines(summary: RunSummary) -> list[str]:
    lines = [f"note: {note}" for note in summary.notes]
    lines += [summary.sentence] if summary.sentence else []
    lines.append(f"run: {summary.run.run_id}, {summary.run.status}")
    if (registered := summary.registration) is not None:
        alias = f", alias {registered.alias}" if registered.alias else ", without alias"
        lines.append(f"registered: {registered.model} version {registered.version}{alias}")
    if summary.report is not None:
        lines.append(f"report: {summary.report}")
    if summary.next:
        lines += ["", "next:", *(f"  {command}" for command in summary.next)]
    return lines


def _next(registration: Registration | None, root: str, tracking_uri: str | None) -> tuple[str, ...]:
    if registration is None:
        return ()
    options = "" if root == DEFAULT_ROOT else f" --root {root}"
    options += f" --tracking-uri {tracking_uri}" if tracking_uri else ""
    name = registration.model if registration.alias else f"{registration.model}/{registration.version}"
    return (f"windlass serve {name}{options}", f"windlass predict {name} FILE.csv -o scores.parquet{options}")


def _columns(budget: BudgetConfig, *, priced: bool) -> tuple[FigureName, ...]:
    """The figures that the budget limits or aims at; the 95th percentile where it looks at no latency."""
    wanted: dict[FigureName, bool] = {
        "latency_p50_ms": budget.max_latency_p50_ms is not None or budget.objective == "latency",
        "latency_p95_ms": budget.max_latency_p95_ms is not None,
        "latency_p99_ms": budget.max_latency_p99_ms is not None,
        "rows_per_s": budget.min_throughput is not None,
        "energy_j": budget.max_energy is not None or budget.objective == "energy",
        "price": priced,
    }
    wanted["latency_p95_ms"] |= not any(wanted[name] for name in ("latency_p50_ms", "latency_p99_ms"))
    return tuple(name for name, shown in wanted.items() if shown)


def _candidates(evaluation: Evaluation, verdict: Verdict | None, budget: BudgetConfig) -> tuple[CandidateRow, ...]:
    judged = {judgement.candidate: judgement for judgement in verdict.candidates} if verdict else {}
    return tuple(
        _candidate(measurement, judged.get(measurement.candidate), budget) for measurement in evaluation.measurements
    )


def _candidate(measurement: Measurement, judgement: CandidateVerdict | None, budget: BudgetConfig) -> CandidateRow:
    found = Figures(measurement, budget.batch_size)
    points = {name: interval.point for name, interval in measurement.quality.items()}
    return CandidateRow(
        candidate=measurement.candidate,
        size_bytes=measurement.size_bytes,
        metric=measurement.metric,
        quality=points[measurement.metric],
        limited_quality={name: points[name] for name in budget.metrics if name != measurement.metric},
        latency_p50_ms=found.latency.p50_ms,
        latency_p95_ms=found.latency.p95_ms,
        latency_p99_ms=found.latency.p99_ms,
        rows_per_s=found.latency.rows_per_s,
        memory_bytes=measurement.memory.peak_bytes,
        energy_j=found.joules,
        price=found.consumption.price,
        fits=judgement.fits if judgement else None,
        reason=judgement.reason if judgement else "",
    )


def _baselines(evaluation: Evaluation) -> tuple[BaselineRow, ...]:
    metric = evaluation.measurements[0].metric
    return tuple(BaselineRow(name=b.name, quality=b.quality[metric].point) for b in evaluation.baselines)
