"""What came out of a run, for people and for machines."""

from __future__ import annotations

from rich.console import Console

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
from windlass.recipe.runs import RunRecord, StepResult, read_recipe, read_run
from windlass.registry.documents import REGISTRATION_NAME, Registration
from windlass.schema import Section, format_size
from windlass.storage import Workspace
from windlass_cli.console import duration, figure, table
from windlass_cli.defaults import DEFAULT_ROOT


class CandidateRow(Section):
    """One candidate as the table shows it; `fits` and `reason` are there once the budget was applied."""

    candidate: str
    size_bytes: int
    metric: str
    quality: float
    latency_p95_ms: float
    memory_bytes: int
    fits: bool | None
    reason: str


class RunSummary(Section):
    """A run's record and what its steps published."""

    run: RunRecord
    batch_size: int
    """At which `latency_p95_ms` was measured."""
    candidates: tuple[CandidateRow, ...]
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
    verdict = report = None
    if selected := results.get("select"):
        directory = workspace.fetch(selected.reference)
        verdict, report = Verdict.read(directory / VERDICT_NAME), str(directory / REPORT_HTML_NAME)
    registration = None
    if registered := results.get("register"):
        registration = Registration.read(workspace.fetch(registered.reference) / REGISTRATION_NAME)
    return RunSummary(
        run=record,
        batch_size=recipe.budget.batch_size,
        candidates=_candidates(workspace, results, verdict, recipe.budget.batch_size),
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
    metric = summary.candidates[0].metric
    rows = [
        (
            row.candidate,
            format_size(row.size_bytes),
            f"{row.quality:.4f}",
            f"{row.latency_p95_ms:.3f} ms",
            format_size(row.memory_bytes),
            f"✓ {row.reason}" if row.candidate == summary.winner else row.reason,
        )
        for row in summary.candidates
    ]
    headings = ("candidate", "size", metric, f"p95, batch {summary.batch_size}", "memory", "verdict")
    return table(headings, rows, right=frozenset({1, 2, 3, 4}))


def _lines(summary: RunSummary) -> list[str]:
    lines = [summary.sentence] if summary.sentence else []
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


def _candidates(
    workspace: Workspace, results: dict[str, StepResult], verdict: Verdict | None, batch_size: int
) -> tuple[CandidateRow, ...]:
    if (evaluated := results.get("evaluate")) is None:
        return ()
    evaluation = Evaluation.read(workspace.fetch(evaluated.reference) / EVALUATION_NAME)
    judged = {judgement.candidate: judgement for judgement in verdict.candidates} if verdict else {}
    return tuple(
        _candidate(measurement, judged.get(measurement.candidate), batch_size)
        for measurement in evaluation.measurements
    )


def _candidate(measurement: Measurement, judgement: CandidateVerdict | None, batch_size: int) -> CandidateRow:
    p95_ms = next(latency.p95_ms for latency in measurement.latency if latency.batch_size == batch_size)
    return CandidateRow(
        candidate=measurement.candidate,
        size_bytes=measurement.size_bytes,
        metric=measurement.metric,
        quality=measurement.quality[measurement.metric].point,
        latency_p95_ms=p95_ms,
        memory_bytes=measurement.memory.total_bytes,
        fits=judgement.fits if judgement else None,
        reason=judgement.reason if judgement else "",
    )
