"""The closer look that the step `select` takes at the winner and the uncompressed variant."""

from __future__ import annotations

from pathlib import Path

from windlass.compression.documents import Candidates
from windlass.recipe.keys import step_key
from windlass.recipe.resolve import ResolvedRecipe
from windlass.storage import Reference, Workspace


def analyse_chosen(
    resolved: ResolvedRecipe,
    workspace: Workspace,
    dataset: Reference,
    model: Reference,
    listed: Candidates,
    winner: str | None,
) -> Reference:
    """Publish what is seen of the winner and the uncompressed variant on validation; never on test."""
    from windlass.evaluation.analysis.analyse import analyse

    recipe = resolved.recipe
    published = {candidate.name: candidate.variant for candidate in listed.candidates}
    names = dict.fromkeys(name for name in (winner, listed.uncompressed) if name is not None)
    variants = {name: published[name] for name in names}
    key = step_key(
        "analyse",
        variants={name: reference.digest for name, reference in variants.items()},
        model=model.digest,
        dataset=dataset.digest,
        evaluate=recipe.evaluate.model_dump(mode="json"),
        device=recipe.serve.device,
    )

    def make(output: Path) -> None:
        analyse(
            {name: workspace.fetch(reference) for name, reference in variants.items()},
            uncompressed=listed.uncompressed,
            model=workspace.fetch(model),
            dataset=workspace.fetch(dataset),
            output=output,
            task=recipe.task,
            config=recipe.evaluate,
            threads=resolved.threads,
            device=recipe.serve.device,
        )

    return workspace.once("analyses", key, make)[0]
