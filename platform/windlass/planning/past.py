"""What earlier runs in the same root took: the best forecast there is of what the same work takes again."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from windlass.evaluation.documents import EVALUATION_NAME, Evaluation
from windlass.models.spec import MODEL_NAME, ModelSpec
from windlass.recipe.model import Recipe
from windlass.recipe.runs import StepResult, list_runs, read_recipe
from windlass.storage import Workspace
from windlass.training.documents import TRAINING_NAME, Training, TrainingSummary

_RUNS = 20


@dataclass(frozen=True)
class _Done:
    """A step that did its work, in a run of this recipe."""

    recipe: Recipe
    result: StepResult


class Past:
    """The newest runs of a root; each figure is a median, or None where no run can tell.

    Only steps that did their whole work count: one that found its result published took no time to make it.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._done = [
            _Done(recipe, result)
            for record in list_runs(workspace)[:_RUNS]
            for recipe in [read_recipe(workspace, record.run_id).recipe]
            for result in record.steps
            if not result.cached
        ]

    def examples_per_second(self, training: Training) -> float | None:
        """Of trainings of the same network with the same batch and workers, validation and checkpoints included."""
        rates = []
        for done in self._of("train"):
            directory = self._workspace.fetch(done.result.reference)
            alike = (done.recipe.train.global_batch_size, done.recipe.train.num_workers) == (
                training.config.global_batch_size,
                training.config.num_workers,
            )
            if alike and ModelSpec.read(directory / MODEL_NAME) == training.spec:
                rates.append(TrainingSummary.read(directory / TRAINING_NAME).examples_per_second)
        return _median(rates)

    def compress_seconds(self, recipe: Recipe) -> float | None:
        """Of runs that made the same candidates of a model that was trained alike."""
        return _median(
            [
                done.result.seconds
                for done in self._of("compress")
                if (done.recipe.name, done.recipe.compress, done.recipe.train, done.recipe.model)
                == (recipe.name, recipe.compress, recipe.train, recipe.model)
                and done.recipe.serve.device == recipe.serve.device
            ]
        )

    def measurement_seconds(self, recipe: Recipe) -> float | None:
        """Of one candidate on one split, measured in the same way."""
        return _median(
            [
                done.result.seconds / len(Evaluation.read(directory / EVALUATION_NAME).measurements)
                for done in self._of("evaluate")
                if done.recipe.evaluate == recipe.evaluate and done.recipe.serve == recipe.serve
                for directory in [self._workspace.fetch(done.result.reference)]
            ]
        )

    def step_seconds(self, step: str) -> float | None:
        """Of a step whose work is much the same in every run."""
        return _median([done.result.seconds for done in self._of(step)])

    def _of(self, step: str) -> Iterator[_Done]:
        return (done for done in self._done if done.result.step == step)


def _median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None
