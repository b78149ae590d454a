"""The step `compress`: from the model to candidates."""

from __future__ import annotations

from pathlib import Path

from windlass.compression.documents import CANDIDATES_NAME
from windlass.recipe.keys import step_key
from windlass.recipe.resolve import ResolvedRecipe
from windlass.recipe.runs import StepResult
from windlass.recipe.steps._shared import publish, training_pods
from windlass.recipe.summaries import summarize_candidates
from windlass.storage import Reference, Workspace


def compress(resolved: ResolvedRecipe, workspace: Workspace, dataset: Reference, model: Reference) -> StepResult:
    """Make the candidates; each network and each variant is published by itself, so that only new ones are made."""
    from windlass.compression.ladder import make_candidates
    from windlass.compression.tree import Tree, Trunk
    from windlass.training.place import find_place

    recipe, module = resolved.recipe, resolved.module
    trunk = Trunk(
        model=model,
        module=module.reference if module else None,
        train=recipe.train,
        dataset=dataset,
        task=recipe.task,
    )
    key = step_key(
        "compress",
        model=model.digest,
        dataset=dataset.digest,
        compress=recipe.compress.model_dump(mode="json"),
        ladder=recipe.serve.device if recipe.compress.candidates == "auto" else None,
        train=recipe.train.model_dump(mode="json", exclude={"num_workers", "keep_checkpoints"}),
    )

    def make(output: Path) -> None:
        with find_place(threads=resolved.threads, pods=training_pods(resolved)) as place:
            tree = Tree(
                trunk,
                recipe.compress,
                workspace=workspace,
                place=place,
                key=step_key,
                threads=resolved.threads,
            )
            make_candidates(tree, recipe.compress, recipe.serve.device).write(output / CANDIDATES_NAME)

    return publish("compress", key, workspace, make, summarize_candidates)
