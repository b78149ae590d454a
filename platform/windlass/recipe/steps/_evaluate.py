"""The step `evaluate`: what each candidate is like when it is served."""

from __future__ import annotations

from pathlib import Path

from windlass.compression.documents import CANDIDATES_NAME, Candidate, Candidates
from windlass.data.description import SplitName
from windlass.recipe.keys import step_key
from windlass.recipe.resolve import ResolvedRecipe
from windlass.recipe.runs import StepResult
from windlass.recipe.steps._shared import publish
from windlass.recipe.summaries import summarize_evaluation
from windlass.storage import Reference, Workspace

SERVING_MODULES = ("windlass_gateway.worker",)
"""What a serving process has loaded beside the model; evaluation loads it too, so that memory means the same."""


def evaluate(resolved: ResolvedRecipe, workspace: Workspace, dataset: Reference, candidates: Reference) -> StepResult:
    """Measure each candidate as it will be served, one at a time, and compare it with the uncompressed model."""
    from windlass.evaluation.compare import compare

    recipe = resolved.recipe
    listed = Candidates.read(workspace.fetch(candidates) / CANDIDATES_NAME)
    baselines = _measure_baselines(resolved, workspace, dataset)
    measured = [
        measure_candidate(resolved, workspace, dataset, candidate, "validation") for candidate in listed.candidates
    ]
    key = step_key(
        "evaluate",
        measurements=[reference.digest for reference in measured],
        baselines=baselines.digest,
        evaluate=recipe.evaluate.model_dump(mode="json"),
    )

    def make(output: Path) -> None:
        compare(
            [workspace.fetch(reference) for reference in measured],
            output,
            uncompressed=listed.uncompressed,
            config=recipe.evaluate,
            task=recipe.task,
            baselines=workspace.fetch(baselines),
        )

    return publish("evaluate", key, workspace, make, summarize_evaluation)


def _measure_baselines(resolved: ResolvedRecipe, workspace: Workspace, dataset: Reference) -> Reference:
    from windlass.evaluation.baselines import measure_baselines

    task = resolved.recipe.task
    key = step_key("evaluate", dataset=dataset.digest, task=task, split="validation")
    return workspace.once(
        "baselines",
        key,
        lambda output: measure_baselines(workspace.fetch(dataset), output, task=task, split="validation"),
    )[0]


def measure_candidate(
    resolved: ResolvedRecipe, workspace: Workspace, dataset: Reference, candidate: Candidate, split: SplitName
) -> Reference:
    """Publish what one variant is like on one split, with the engine and threads of serving."""
    from windlass.evaluation.machine import machine
    from windlass.evaluation.measure import measure

    recipe = resolved.recipe
    key = step_key(
        "evaluate",
        variant=candidate.variant.digest,
        dataset=dataset.digest,
        split=split,
        evaluate=recipe.evaluate.measuring(),
        serve=recipe.serve.model_dump(mode="json"),
        machine=machine(recipe.serve.device),
        modules=SERVING_MODULES,
    )

    def make(output: Path) -> None:
        measure(
            candidate.name,
            variant=workspace.fetch(candidate.variant),
            reference=candidate.variant,
            dataset=workspace.fetch(dataset),
            output=output,
            task=recipe.task,
            config=recipe.evaluate,
            serve=recipe.serve,
            split=split,
            timed=split == "validation",
            preload=SERVING_MODULES,
        )

    return workspace.once("measurements", key, make)[0]
