"""report.json for programs, and one self-contained report.html that people look at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from windlass.data.description import DatasetDescription
from windlass.errors import EXIT_OVER_BUDGET, EXIT_TEST_OVER_BUDGET
from windlass.evaluation.analysis.documents import Analysis
from windlass.evaluation.charts import learning_curve, size_and_quality
from windlass.evaluation.documents import (
    REPORT_HTML_NAME,
    REPORT_JSON_NAME,
    Evaluation,
    Interval,
    Measurement,
    Mistakes,
    TestResult,
    Verdict,
)
from windlass.schema import format_size

REPORT_VERSION = 1
_TEMPLATE = "report.html.j2"
_STATES = {
    0: ("good", "✓", "inside the budget"),
    EXIT_OVER_BUDGET: ("bad", "✕", "nothing inside the budget"),
    EXIT_TEST_OVER_BUDGET: ("warn", "!", "beyond a limit on test"),
}


def write_report(
    output: Path,
    *,
    recipe: dict[str, Any],
    verdict: Verdict,
    evaluation: Evaluation,
    dataset: DatasetDescription,
    history: list[dict[str, Any]],
    links: dict[str, str],
    analysis: Analysis | None = None,
) -> None:
    """Write report.json and report.html into `output`.

    Args:
        recipe: the resolved recipe as JSON.
        history: the lines of the training's history.jsonl.
        links: what was made on the way, name to where it lies.
        analysis: what is known of the winner and the uncompressed variant beyond their quality, if it was looked at;
            its PNG files lie in `output`.
    """
    document = {
        "format_version": REPORT_VERSION,
        "recipe": recipe,
        "verdict": verdict.model_dump(mode="json"),
        "evaluation": evaluation.model_dump(mode="json"),
        "dataset": dataset.model_dump(mode="json"),
        "history": history,
        "links": links,
        "analysis": analysis.model_dump(mode="json") if analysis else None,
    }
    (output / REPORT_JSON_NAME).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    page = _render(recipe, verdict, evaluation, dataset, history, links)
    (output / REPORT_HTML_NAME).write_text(page, encoding="utf-8")


def _render(
    recipe: dict[str, Any],
    verdict: Verdict,
    evaluation: Evaluation,
    dataset: DatasetDescription,
    history: list[dict[str, Any]],
    links: dict[str, str],
) -> str:
    import jinja2
    import yaml
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"size": format_size, "bounds": _bounds, "figure": _figure, "ms": _ms}
    measured = {measurement.candidate: measurement for measurement in evaluation.measurements}
    tested = {result.candidate: result for result in verdict.test}
    winner = measured.get(verdict.winner or "")
    state, sign, state_name = _STATES[verdict.exit_code]
    return environment.get_template(_TEMPLATE).render(
        name=recipe["name"],
        task=recipe["task"],
        state=state,
        sign=sign,
        state_name=state_name,
        verdict=verdict,
        metric=evaluation.measurements[0].metric,
        tiles=_tiles(verdict, winner, measured[evaluation.uncompressed]),
        rows=[
            (measured[candidate.candidate], candidate, _drop(evaluation, candidate.candidate))
            for candidate in verdict.candidates
        ],
        agreement={comparison.candidate: comparison.agreement for comparison in evaluation.comparisons},
        tested=tested,
        test_metrics=list(next(iter(tested.values())).quality) if tested else [],
        size_chart=Markup(size_and_quality(evaluation, verdict.winner)),  # noqa: S704 - made of numbers and escaped names
        loss_chart=Markup(learning_curve(history)),  # noqa: S704
        mistakes=_shown_mistakes(verdict, winner or measured[evaluation.uncompressed], tested),
        dataset=dataset,
        budget={key: value for key, value in recipe.get("budget", {}).items() if value is not None},
        links=links,
        recipe=yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True),
    )


def _tiles(verdict: Verdict, winner: Measurement | None, uncompressed: Measurement) -> list[tuple[str, str, str]]:
    """Label, figure and a note of what matters of the winner."""
    if winner is None:
        return []
    tested = next((result for result in verdict.test if result.candidate == winner.candidate), None)
    quality = (tested or winner).quality[winner.metric]
    one = winner.latency[0]
    times = uncompressed.size_bytes / winner.size_bytes
    return [
        (f"{winner.metric} on {'test' if tested else 'validation'}", f"{quality.point:.4f}", _bounds(quality)),
        ("size", format_size(winner.size_bytes), f"{times:.1f} times smaller than {uncompressed.candidate}"),
        ("latency p95, batch 1", _ms(one.p95_ms), f"p50 {_ms(one.p50_ms)}"),
        (
            "memory when serving",
            format_size(winner.memory.total_bytes),
            f"{format_size(winner.memory.interpreter_bytes)} of it without the model",
        ),
    ]


def _drop(evaluation: Evaluation, candidate: str) -> Interval | None:
    return next((c.drop for c in evaluation.comparisons if c.candidate == candidate), None)


def _shown_mistakes(
    verdict: Verdict, measurement: Measurement, tested: dict[str, TestResult]
) -> tuple[str, str, Mistakes, int]:
    """Of which candidate, on which split, which mistakes, and the largest count in their matrix."""
    result = tested.get(verdict.winner or "")
    shown = result.mistakes if result else measurement.mistakes
    largest = max((max(row) for row in shown.confusion), default=1) if shown.confusion else 1
    return measurement.candidate, "test" if result else "validation", shown, max(largest, 1)


def _bounds(interval: Interval) -> str:
    return f"{_figure(interval.low)} to {_figure(interval.high)}"


def _figure(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.4g}"


def _ms(value: float) -> str:
    return f"{value * 1000:.0f} µs" if value < 1 else f"{value:.2f} ms"
