"""The steps evaluate and select in a workspace: what is measured once, and what a changed setting runs again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from windlass.evaluation.documents import EVALUATION_NAME, VERDICT_NAME, Evaluation, Verdict
from windlass.recipe import steps
from windlass.recipe.load import check_recipe
from windlass.recipe.resolve import ResolvedRecipe, resolve
from windlass.recipe.runs import StepResult
from windlass.storage import Workspace

RECIPE: dict[str, Any] = {
    "name": "answers",
    "task": "tabular-classification",
    "data": {"source": "sklearn:wine"},
    "train": {"epochs": 1},
    "compress": {"candidates": ["int8"]},
    "evaluate": {"latency_seconds": 0.05, "bootstrap": 100, "analysis": {"rows": 20, "attack_rows": 5}},
}


class Family:
    """A model of a moment's training and its int8 candidate, a third of its size."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        recipe = self._resolved({})
        self.dataset = steps.prepare(recipe, workspace).reference
        self.model = steps.train(recipe, workspace, self.dataset, run_id="run").reference
        self.candidates = steps.compress(recipe, workspace, self.dataset, self.model).reference

    def evaluate(self, **changes: Any) -> StepResult:
        return steps.evaluate(self._resolved(changes), self.workspace, self.dataset, self.candidates)

    def select(self, evaluated: StepResult, **changes: Any) -> StepResult:
        return steps.select(
            self._resolved(changes), self.workspace, self.dataset, self.model, self.candidates, evaluated.reference
        )

    def _resolved(self, changes: dict[str, Any]) -> ResolvedRecipe:
        return resolve(check_recipe(RECIPE | changes, "recipe.yaml"), Path())

    def measurements(self) -> set[Path]:
        """What is published of single measurements."""
        return {path for kind in ("measurements", "baselines") for path in self.workspace.local.glob(f"steps/{kind}/*")}


@pytest.fixture
def family(tmp_path: Path) -> Family:
    return Family(Workspace(tmp_path / "results"))


@pytest.mark.slow
def test_changed_budgets_and_prices_measure_nothing_again_and_are_applied_at_once(family: Family) -> None:
    evaluated = family.evaluate()
    first = family.select(evaluated)
    assert first.summary == {"winner": "int8", "exit code": 0}
    measured = family.measurements()
    assert len(measured) == 5  # two on validation, two on test, the trivial models

    dearer = family.evaluate(evaluate={**RECIPE["evaluate"], "price_per_hour": 36.0, "watts_per_core": 20})
    evaluation = Evaluation.read(family.workspace.fetch(dearer.reference) / EVALUATION_NAME)
    for measurement in evaluation.measurements:
        for latency, spent in zip(measurement.latency, measurement.cost.per_1000_rows, strict=True):
            assert spent.price == pytest.approx(10 / latency.rows_per_s)
            assert spent.energy is not None
            assert spent.energy.method == "rapl" or spent.energy.joules == pytest.approx(20 * spent.cpu_s)

    surer = family.select(dearer, budget={"max_quality_drop": 1.0, "confidence": 0.8})
    assert surer.summary == first.summary
    impossible = family.select(dearer, budget={"max_size": "1B"})
    assert impossible.summary == {"winner": "none", "exit code": 3}
    assert family.measurements() == measured
    assert family.evaluate().cached
    assert family.select(evaluated).cached


@pytest.mark.slow
def test_trivial_models_are_fitted_once_for_a_dataset_and_stand_beside_the_candidates(family: Family) -> None:
    evaluated = family.evaluate()
    evaluation = Evaluation.read(family.workspace.fetch(evaluated.reference) / EVALUATION_NAME)
    assert [baseline.name for baseline in evaluation.baselines] == ["majority", "linear"]
    assert evaluation.beats_baselines is False  # a single epoch is not enough
    selected = family.select(evaluated)
    verdict = Verdict.read(family.workspace.fetch(selected.reference) / VERDICT_NAME)
    assert "fp32 is" in verdict.notes[0]
    assert "a trivial model (linear)" in verdict.notes[0]
    assert len(list(family.workspace.local.glob("steps/baselines/*"))) == 1
