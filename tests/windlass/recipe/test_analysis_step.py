"""The closer look that select takes, in a real run of the steps on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from windlass.evaluation.analysis.documents import Analysis
from windlass.recipe import steps
from windlass.recipe.load import check_recipe
from windlass.recipe.resolve import ResolvedRecipe, resolve
from windlass.storage import Reference, Workspace

RECIPE: dict[str, Any] = {
    "name": "digits",
    "task": "image-classification",
    "data": {"source": "sklearn:digits"},
    "model": {"architecture": "linear"},
    "train": {"epochs": 2, "global_batch_size": 64},
    "compress": {"candidates": ["fp32", "int8"]},
}
EVALUATE = {"latency_seconds": 0.05, "bootstrap": 50, "analysis": {"rows": 100, "attack_rows": 20}}


def resolved(base: Path, **sections: Any) -> ResolvedRecipe:
    return resolve(check_recipe({**RECIPE, "evaluate": EVALUATE, **sections}, "recipe.yaml"), base)


def published(workspace: Workspace, step: str) -> int:
    return len(list((workspace.local / "steps" / step).iterdir()))


@pytest.mark.slow
def test_select_looks_closely_at_the_winner_and_the_uncompressed_once(tmp_path: Path) -> None:
    workspace, recipe = Workspace(tmp_path / "results"), resolved(tmp_path)
    dataset = steps.prepare(recipe, workspace).reference
    model = steps.train(recipe, workspace, dataset, run_id="run").reference
    candidates = steps.compress(recipe, workspace, dataset, model).reference
    evaluation = steps.evaluate(recipe, workspace, dataset, candidates).reference

    def report(**sections: Any) -> tuple[dict[str, Any], Path]:
        result = steps.select(resolved(tmp_path, **sections), workspace, dataset, model, candidates, evaluation)
        directory = workspace.fetch(result.reference)
        return json.loads((directory / "report.json").read_text()), directory

    def select(**sections: Any) -> tuple[Analysis, Path]:
        found, directory = report(**sections)
        return Analysis.model_validate(found["analysis"]), directory

    analysis, directory = select()
    winner = json.loads((directory / "verdict.json").read_text())["winner"]
    assert analysis.variants == tuple(dict.fromkeys((winner, "fp32")))
    assert (analysis.split, analysis.rows) == ("validation", 100), "test is never looked at"
    lineage = json.loads((directory / "report.json").read_text())["lineage"]
    looked_at = workspace.fetch(Reference.model_validate(lineage["analysis"]))
    assert analysis.files
    assert all((looked_at / name).is_file() for name in analysis.files)
    before = published(workspace, "measurements")

    again, _ = select(budget={"max_quality_drop": 0.5})
    assert again == analysis
    assert published(workspace, "analyses") == 1, "another budget with the same winner looks at nothing anew"

    closer, _ = select(evaluate={**EVALUATE, "analysis": {"rows": 150, "attack_rows": 20}})
    assert closer.rows == 150
    assert published(workspace, "measurements") == before, "how closely one looks is no part of a measurement"

    hasty, directory = select(evaluate={**EVALUATE, "analysis": {"rows": 100, "attack_rows": 20, "max_time": "1ms"}})
    assert [cut.part for cut in hasty.left_out] == ["robustness", "image_examples", "adversarial"]
    page = (directory / "report.html").read_text()
    assert "evaluate.analysis.max_time, 0.001 s, was over after 0 of" in page
    assert "<h3>Robustness</h3>" not in page

    alone, _ = select(budget={"max_size": 1})
    assert alone.variants == ("fp32",), "where nothing fits there is no winner to look at"

    looked = published(workspace, "analyses")
    without, directory = report(evaluate={**EVALUATE, "analysis": {"rows": 0}})
    assert without["analysis"] is None
    assert "analysis" not in without["lineage"]
    assert (directory / "report.html").is_file()
    assert published(workspace, "analyses") == looked, "0 rows: no such look"
