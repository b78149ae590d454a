"""The step `select`: the smallest candidate inside the budget, what test says of it, and the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from windlass.compression.documents import CANDIDATES_NAME, Candidates
from windlass.evaluation.documents import EVALUATION_NAME, VERDICT_NAME, Evaluation, Verdict
from windlass.models.spec import HISTORY_NAME
from windlass.recipe.keys import step_key
from windlass.recipe.resolve import ResolvedRecipe
from windlass.recipe.runs import StepResult
from windlass.recipe.steps._analyse import analyse_chosen
from windlass.recipe.steps._evaluate import measure_candidate
from windlass.recipe.steps._shared import publish
from windlass.recipe.summaries import read_lines, summarize_verdict
from windlass.schema import digest_of
from windlass.storage import Reference, Workspace
from windlass.tasks import get_task


def select(
    resolved: ResolvedRecipe,
    workspace: Workspace,
    dataset: Reference,
    model: Reference,
    candidates: Reference,
    evaluation: Reference,
) -> StepResult:
    """Apply the budget; read the test split once, for the winner and the uncompressed model; write the report.

    Both are also looked at closely, on validation; where nothing is inside the budget, the uncompressed one alone.
    """
    from windlass.evaluation.compare import at_confidence
    from windlass.evaluation.report import start_bundling, write_report
    from windlass.evaluation.selection import select_candidate
    from windlass.training.documents import TRAINING_NAME, TrainingSummary

    recipe = resolved.recipe
    evaluated = workspace.fetch(evaluation)
    measured = Evaluation.read(evaluated / EVALUATION_NAME)
    judged = at_confidence(measured, evaluated, recipe.budget.confidence, get_task(recipe.task))
    listed = Candidates.read(workspace.fetch(candidates) / CANDIDATES_NAME)
    decided_by = {
        "dataset": dataset.digest,
        "candidates": candidates.digest,
        "evaluation": evaluation.digest,
        "budget": recipe.budget.model_dump(mode="json"),
        "evaluate": recipe.evaluate.measuring(),
    }
    decided = select_candidate(judged, recipe.budget, task=recipe.task)
    lineage = {"dataset": dataset, "model": model, "candidates": candidates, "evaluation": evaluation}
    if recipe.evaluate.analysis.rows:
        lineage["analysis"] = analyse_chosen(resolved, workspace, dataset, model, listed, decided.winner)
    analysis = lineage.get("analysis")
    # The name, the model's history and the analysis are only shown: they make another report, not another decision.
    shown = {"name": resolved.name, "model": model.digest, "analysis": analysis and analysis.digest}
    key = step_key("select", **decided_by, **shown)

    def make(output: Path) -> None:
        start_bundling()  # on test no time is measured that it could disturb
        verdict = _judge_on_test(resolved, workspace, dataset, listed, decided, decided_by)
        verdict.write(output / VERDICT_NAME)
        write_report(
            output,
            recipe=recipe.model_dump(mode="json", by_alias=True, exclude={"registration"}),
            verdict=verdict,
            evaluation=measured,
            judged=judged,
            bundle=workspace.fetch(dataset),
            candidates=listed,
            training=TrainingSummary.read(workspace.fetch(model) / TRAINING_NAME),
            history=read_lines(workspace.fetch(model) / HISTORY_NAME),
            lineage=lineage,
            key=key,
            commands=[f"windlass run {resolved.name}.yaml", f"windlass serve {resolved.model_name}"],
            analysis=workspace.fetch(analysis) if analysis else None,
        )

    return publish("select", key, workspace, make, summarize_verdict)


def _judge_on_test(
    resolved: ResolvedRecipe,
    workspace: Workspace,
    dataset: Reference,
    listed: Candidates,
    decided: Verdict,
    decided_by: dict[str, Any],
) -> Verdict:
    """The verdict with what test says of the winner; as it is where there is none."""
    from windlass.evaluation.selection import judge_test

    if decided.winner is None:
        return decided
    tested = {decided.winner, listed.uncompressed}
    results = [
        workspace.fetch(measure_candidate(resolved, workspace, dataset, candidate, "test"))
        for candidate in listed.candidates
        if candidate.name in tested
    ]
    reads = _count_test_reads(workspace, dataset, decided_by)
    recipe = resolved.recipe
    return judge_test(decided, results, recipe.budget, task=recipe.task, config=recipe.evaluate, reads=reads)


def _count_test_reads(workspace: Workspace, dataset: Reference, decided_by: dict[str, Any]) -> int:
    """How many decisions have read this dataset's test split, this one included: each one makes it less honest."""
    folder = f"test-reads/{dataset.digest}/"
    workspace.write_document(f"{folder}{digest_of(decided_by)[:32]}.json", b"{}")
    return len(workspace.list_documents(folder))
