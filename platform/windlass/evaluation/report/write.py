"""What select publishes for people and programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windlass.data.description import DATASET_NAME, DatasetDescription
from windlass.evaluation.analysis.documents import ANALYSIS_NAME, Analysis
from windlass.evaluation.documents import REPORT_HTML_NAME, REPORT_JSON_NAME, Evaluation, Verdict
from windlass.evaluation.report.facts import Facts
from windlass.evaluation.report.page import draw, render
from windlass.evaluation.report.tables import tables
from windlass.storage import Reference

if TYPE_CHECKING:
    from windlass.compression.documents import Candidates
    from windlass.training.documents import TrainingSummary

REPORT_VERSION = 2
FIGURES_FOLDER, TABLES_FOLDER = "figures", "tables"


def write_report(
    output: Path,
    *,
    recipe: Mapping[str, Any],
    verdict: Verdict,
    evaluation: Evaluation,
    judged: Evaluation,
    bundle: Path,
    candidates: Candidates,
    training: TrainingSummary | None,
    history: Sequence[Mapping[str, Any]],
    lineage: Mapping[str, Reference],
    key: str | None,
    commands: Sequence[str],
    analysis: Path | None = None,
) -> None:
    """Write report.json and report.html into `output`, and beside them the same figures as SVG and as tables.

    Args:
        output: gets `figures/*.svg` and `tables/*.json` too, the latter in the form of MLflow's tables.
        recipe: the resolved recipe as JSON.
        judged: the evaluation with intervals of the budget's confidence.
        bundle: directory of the dataset; the examples shown are rows of train.
        candidates: how each one was made, what was left out and why.
        history: the lines of the training's history.jsonl.
        lineage: what was made on the way, by name.
        training: None where a registered version is measured and nothing was trained.
        key: the select step's own, if one wrote this.
        commands: what to type to do it again.
        analysis: directory of analysis.json and its pictures, where the run was analysed.
    """
    facts = Facts(
        recipe=recipe,
        verdict=verdict,
        evaluation=evaluation,
        judged=judged,
        dataset=DatasetDescription.read(bundle / DATASET_NAME),
        bundle=bundle,
        candidates=candidates,
        training=training,
        history=history,
        lineage=lineage,
        key=key,
        commands=commands,
        analysis=Analysis.read(analysis / ANALYSIS_NAME) if analysis else None,
        analysis_directory=analysis,
    )
    (output / REPORT_JSON_NAME).write_text(
        json.dumps(_document(facts), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    drawn = draw(facts)
    (output / REPORT_HTML_NAME).write_text(render(facts, drawn), encoding="utf-8")
    (output / FIGURES_FOLDER).mkdir()
    for chart in drawn.all:
        if chart.svg is not None:
            # by itself, a figure stands on white: its colours are those of the light theme
            svg = chart.svg.replace("<svg ", '<svg style="background: #fff" ', 1)
            (output / FIGURES_FOLDER / f"{chart.key}.svg").write_text(svg, encoding="utf-8")
    (output / TABLES_FOLDER).mkdir()
    for name, table in tables(facts).items():
        (output / TABLES_FOLDER / f"{name}.json").write_text(json.dumps(table, ensure_ascii=False), encoding="utf-8")


def _document(facts: Facts) -> dict[str, Any]:
    return {
        "format_version": REPORT_VERSION,
        "recipe": facts.recipe,
        "verdict": facts.verdict.model_dump(mode="json"),
        "evaluation": facts.evaluation.model_dump(mode="json"),
        "analysis": facts.analysis.model_dump(mode="json") if facts.analysis else None,
        "candidates": facts.candidates.model_dump(mode="json"),
        "dataset": facts.dataset.model_dump(mode="json"),
        "training": facts.training.model_dump(mode="json") if facts.training else None,
        "history": list(facts.history),
        "lineage": {name: reference.model_dump(mode="json") for name, reference in facts.lineage.items()},
        "key": facts.key,
    }
