"""What several steps have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from windlass.recipe.resolve import ResolvedRecipe
from windlass.recipe.runs import StepResult, Summary
from windlass.storage import Workspace

if TYPE_CHECKING:
    from windlass.training.cluster import TrainingPods


def publish(
    step: str,
    key: str,
    workspace: Workspace,
    make: Callable[[Path], None],
    summarize: Callable[[Path], Summary],
) -> StepResult:
    """Publish a step's result under its key, unless it is there.

    Args:
        make: writes the result into an empty directory.
        summarize: what people are shown of the published result.
    """
    reference, cached = workspace.once(step, key, make)
    summary = summarize(workspace.fetch(reference))
    return StepResult(step=step, key=key, reference=reference, cached=cached, summary=summary)


def tracking_uri_of(resolved: ResolvedRecipe, workspace: Workspace) -> str:
    """The recipe's tracking server; without one, that of the environment, or a database in the local directory."""
    from windlass.registry import default_tracking_uri

    return resolved.recipe.registration.tracking_uri or default_tracking_uri(workspace.local)


def training_pods(resolved: ResolvedRecipe) -> TrainingPods:
    """What the recipe asks of a cluster for each training; a training on this machine asks for nothing."""
    from windlass.training.cluster import TrainingPods

    asked = resolved.recipe.resources.cluster
    return TrainingPods(
        processes=asked.worker.processes,
        cpu=asked.worker.cpu,
        memory_bytes=asked.worker.memory,
        gpus=asked.worker.gpus,
        placement=asked.placement(),
        checkpoint_claim=asked.checkpoint_claim,
        queue=asked.queue,
        timeout_s=asked.training_timeout,
    )
