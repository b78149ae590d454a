"""The step `prepare`: from the source to a dataset bundle."""

from __future__ import annotations

from windlass.recipe.preparing import prepare_here, prepare_key
from windlass.recipe.resolve import ResolvedRecipe
from windlass.recipe.runs import StepResult
from windlass.recipe.spark_job import prepare_in_job, settings_for_job
from windlass.recipe.summaries import summarize_dataset
from windlass.storage import Workspace
from windlass.variants.engines import check_build


def prepare(resolved: ResolvedRecipe, workspace: Workspace) -> StepResult:
    """Make the dataset bundle: here, or in a Job of Spark's image.

    It is the first step of every run, so it also looks whether this installation or image has the engine that the
    recipe is measured with: hours of training come before the step that measures.
    """
    check_build(resolved.recipe.serve.device)
    key = prepare_key(resolved)
    settings = settings_for_job(resolved)
    if settings is None:
        reference, cached = prepare_here(resolved, workspace)
    else:
        reference, cached = prepare_in_job(resolved, workspace, key=key, settings=settings)
    summary = summarize_dataset(workspace.fetch(reference))
    return StepResult(step="prepare", key=key, reference=reference, cached=cached, summary=summary)
