"""The page: what each part shows, filled into the templates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from windlass.errors import EXIT_OVER_BUDGET, EXIT_TEST_OVER_BUDGET
from windlass.evaluation.documents import Mistakes
from windlass.evaluation.report import charts, text
from windlass.evaluation.report.asked import asked, limits, quality_floor
from windlass.evaluation.report.charts import Chart
from windlass.evaluation.report.examples import columns, data_uri, pictures
from windlass.evaluation.report.facts import Facts
from windlass.evaluation.report.frontier import cost_axes, frontier
from windlass.evaluation.report.live import TEMPLATES, policy, scripts, specification
from windlass.schema import format_size

_STATES = {
    0: ("good", "✓", "inside the budget"),
    EXIT_OVER_BUDGET: ("bad", "✕", "nothing inside the budget"),
    EXIT_TEST_OVER_BUDGET: ("warn", "!", "beyond a limit on test"),
}


@dataclass(frozen=True)
class Drawn:
    """The charts by where they stand; a part without one is empty."""

    curves: tuple[Chart, ...]
    frontier: tuple[Chart, ...]
    """Quality over size, then over all other costs; empty for a single candidate."""
    mistakes: tuple[Chart, ...]
    attacks: tuple[Chart, ...]

    @property
    def all(self) -> tuple[Chart, ...]:
        return (*self.curves, *self.frontier, *self.mistakes, *self.attacks)


def draw(facts: Facts) -> Drawn:
    """Draw what there is to draw."""
    shown = _mistakes(facts)
    mistakes = []
    if shown.deciles:
        mistakes.append(charts.residuals(shown.deciles, facts.dataset.target))
    if shown.calibration:
        mistakes.append(charts.reliability(shown.calibration))
    analysis = facts.analysis
    attacked = analysis is not None and analysis.adversarial is not None and analysis.adversarial.attacks
    return Drawn(
        curves=tuple(
            charts.learning_curves(facts.history, facts.metric, facts.training.best_epoch if facts.training else 0)
        ),
        frontier=tuple(_frontiers(facts)) if len(facts.evaluation.measurements) > 1 else (),
        mistakes=tuple(mistakes),
        attacks=(charts.adversarial_curve(analysis.adversarial, facts.metric),)
        if attacked and analysis is not None and analysis.adversarial is not None
        else (),
    )


def _frontiers(facts: Facts) -> list[Chart]:
    higher, floor = facts.higher_is_better, quality_floor(facts)
    axes = cost_axes(facts.evaluation, {limit.key: limit.allowed for limit in limits(facts)}, facts.batch_size)
    return [
        frontier(facts.evaluation, facts.verdict, axis, floor, higher_is_better=higher, drawn=place < 2)
        for place, axis in enumerate(axes)
    ]


def render(facts: Facts, drawn: Drawn) -> str:
    """The whole page as one string."""
    import jinja2
    import yaml
    from markupsafe import Markup

    import windlass

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {**text.FILTERS, "anchor": _anchor}
    runtime, script = scripts()
    state, sign, state_name = _STATES[facts.verdict.exit_code]
    return environment.get_template("page.html.j2").render(
        facts=facts,
        state=state,
        sign=sign,
        state_name=state_name,
        version=windlass.__version__,
        tiles=_tiles(facts),
        asked=asked(facts, facts.shown.candidate),
        drawn=drawn,
        pictures=pictures(facts.bundle),
        columns=columns(facts.bundle),
        mistakes=_mistakes(facts),
        mistakes_split="test" if facts.tested(facts.shown.candidate) else "validation",
        analysis_pictures=_analysis_pictures(facts),
        recipe_text=yaml.safe_dump(dict(facts.recipe), sort_keys=False, allow_unicode=True),
        plural=text.plural,
        batch_size=facts.batch_size,
        # scripts, specifications and SVG are ours; names of users are escaped where they enter them
        style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),  # noqa: S704
        runtime=Markup(runtime),  # noqa: S704
        script=Markup(script),  # noqa: S704
        svg={chart.key: Markup(chart.svg) for chart in drawn.all if chart.svg},  # noqa: S704
        specs={chart.key: Markup(specification(chart)) for chart in drawn.all},  # noqa: S704
        policy=policy((runtime, script)),
    )


def _anchor(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _tiles(facts: Facts) -> list[tuple[str, str, str]]:
    """Label, figure and a note of what matters of the chosen one."""
    chosen, base = facts.chosen, facts.uncompressed
    if chosen is None:
        return []
    tested = facts.tested(chosen.candidate)
    quality = (tested or chosen).quality[facts.metric]
    one, base_one = chosen.latency[0], base.latency[0]
    name = text.metric_name(facts.metric)
    smaller = _times(base.size_bytes / chosen.size_bytes, "smaller", "larger", base.candidate)
    faster = _times(base_one.p50_ms / one.p50_ms, "faster", "slower", base.candidate)
    return [
        (f"{name} on {'test' if tested else 'validation'}", text.figure(quality.point), text.bounds(quality)),
        ("size", format_size(chosen.size_bytes), smaller),
        (
            f"latency p50, batch {one.batch_size}",
            text.milliseconds(one.p50_ms),
            f"{faster}; p95 {text.milliseconds(one.p95_ms)}",
        ),
        (
            "peak memory when serving",
            format_size(chosen.memory.peak_bytes),
            f"{format_size(chosen.memory.interpreter_bytes)} of it without the model",
        ),
    ]


def _times(ratio: float, more: str, less: str, base: str) -> str:
    if 0.95 <= ratio <= 1.05:
        return f"as {base}"
    return f"{ratio:.1f} times {more} than {base}" if ratio > 1 else f"{1 / ratio:.1f} times {less} than {base}"


def _mistakes(facts: Facts) -> Mistakes:
    result = facts.tested(facts.shown.candidate)
    return result.mistakes if result else facts.shown.mistakes


def _analysis_pictures(facts: Facts) -> Mapping[str, Any]:
    """The pictures of the analysis by file name, inside the page."""
    if facts.analysis is None or facts.analysis_directory is None:
        return {}
    return {name: data_uri((facts.analysis_directory / name).read_bytes()) for name in facts.analysis.files}
