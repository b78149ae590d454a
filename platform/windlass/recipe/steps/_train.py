"""The step `train`: from the bundle to a model."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from windlass.data.description import DATASET_NAME, DatasetDescription
from windlass.models.spec import HISTORY_NAME, STEPS_NAME
from windlass.recipe.keys import step_key
from windlass.recipe.resolve import ResolvedRecipe
from windlass.recipe.runs import StepResult
from windlass.recipe.steps._shared import tracking_uri_of, training_pods
from windlass.recipe.summaries import summarize_model
from windlass.storage import Reference, Workspace
from windlass.tasks import get_task

if TYPE_CHECKING:
    from windlass.training.documents import Training


def train(resolved: ResolvedRecipe, workspace: Workspace, dataset: Reference, *, run_id: str) -> StepResult:
    """Train the model on the bundle, from its newest checkpoint if there is one: here, or as a job of the cluster."""
    from windlass.training.place import find_place

    training = plan_training(resolved, workspace, dataset)
    with find_place(threads=resolved.threads, pods=training_pods(resolved)) as place:
        reference, cached = place.train(
            training, workspace, watch=lambda work: _mirrored_metrics(resolved, workspace, run_id, work)
        )
    summary = summarize_model(workspace.fetch(reference))
    return StepResult(step="train", key=training.key, reference=reference, cached=cached, summary=summary)


def plan_training(resolved: ResolvedRecipe, workspace: Workspace, dataset: Reference) -> Training:
    """What `train` does, and the key under which it publishes."""
    from windlass.models import make_spec
    from windlass.training.documents import Training

    recipe, task, module = resolved.recipe, get_task(resolved.recipe.task), resolved.module
    description = DatasetDescription.read(workspace.fetch(dataset) / DATASET_NAME)
    published = module.reference if module else None
    spec = make_spec(
        str(recipe.model.architecture),
        recipe.model.parameters,
        input_shape=task.input_shape(description),
        num_outputs=task.num_outputs(description),
        module_path=workspace.fetch(published) / Path(module.path).name if module and published else None,
    )
    key = step_key(
        "train",
        dataset=dataset.digest,
        task=task.name,
        spec=spec.model_dump(mode="json"),
        train=recipe.train.model_dump(mode="json", exclude={"num_workers", "keep_checkpoints"}),
    )
    return Training(config=recipe.train, task=task.name, spec=spec, module=published, dataset=dataset, key=key)


def _mirrored_metrics(
    resolved: ResolvedRecipe, workspace: Workspace, run_id: str, work: Path
) -> AbstractContextManager[object]:
    """Follow training on a tracking server. A file of SQLite gets it all at the end: nobody watches it live."""
    tracking_uri = tracking_uri_of(resolved, workspace)
    if not tracking_uri.startswith("http"):
        return nullcontext()
    from windlass.registry import MetricsMirror

    return MetricsMirror(
        work / HISTORY_NAME, work / STEPS_NAME, tracking_uri=tracking_uri, experiment=resolved.name, run_id_tag=run_id
    )
