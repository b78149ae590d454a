"""From a resolved recipe to a plan. Data are prepared for it, since all else depends on them, and kept for the run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from windlass.compression.ladder import planned_candidates
from windlass.compression.methods import Chain
from windlass.data.description import DATASET_NAME, DatasetDescription
from windlass.planning.documents import Basis, PlannedStep, RunPlan
from windlass.planning.past import Past
from windlass.progress import track
from windlass.recipe import steps
from windlass.recipe.resolve import ResolvedRecipe
from windlass.storage import Workspace
from windlass.training.config import TrainConfig
from windlass.training.documents import Training

# Assumed until a run of this root says otherwise; measured on two cores of a server, see docs/LOG.md, 2026-11-24.
_START_TRAINING_S = 6.0
_MAKE_VARIANT_S = 3.0
_START_MEASURING_S = 2.5
_SELECT_S = 1.0
_REGISTER_S = 4.0
_EXCHANGE_SHARE = 0.15
"""What several workers lose to one another, of a step."""
_TEACHER_SHARE = 0.35
"""What a teacher's answers cost, of a step."""
_BYTES_PER_PARAMETER = 4
_MODEL_COPIES = 4
"""Weights, and a checkpoint with two moments: what a training leaves while it runs."""
_TESTED = 2
"""The winner and the uncompressed model are measured on test."""
_RUN_BYTES = 2 * 10**6
"""Report, histories, predictions."""


def plan_run(resolved: ResolvedRecipe, workspace: Workspace) -> RunPlan:
    """What a run of the recipe would still do in this root.

    Raises:
        DataError: the data are not as they have to be, as a run would say.
        InvalidModuleError: the user's module does not load.
    """
    prepared = steps.prepare(resolved, workspace)
    training = steps.plan_training(resolved, workspace, prepared.reference)
    dataset = workspace.fetch(prepared.reference)
    with track("timing steps of training", unit="steps"):
        step_s, num_parameters = _time(training, workspace, dataset, resolved.threads)
    work = _Work(resolved, workspace, training, Past(workspace), step_s, dataset)
    chains = planned_candidates(resolved.recipe.compress, resolved.recipe.serve.device)
    return RunPlan(
        steps=(
            PlannedStep(step="prepare", work=_rows(work.description), seconds=0.0, basis="done"),
            work.train(),
            work.compress(chains),
            work.evaluate(len(chains)),
            work.select(),
            work.register(),
        ),
        candidates=tuple(chain.name for chain in chains),
        num_parameters=num_parameters,
        disk_bytes=_disk_bytes(num_parameters, chains) + _directory_bytes(dataset),
    )


def _time(training: Training, workspace: Workspace, dataset: Path, threads: int) -> tuple[float, int]:
    from windlass.planning.timing import time_steps

    module = workspace.fetch(training.module) if training.module else None
    return time_steps(training, dataset, module, threads=threads)


@dataclass(frozen=True)
class _Work:
    """One run, as far as it can be foreseen."""

    resolved: ResolvedRecipe
    workspace: Workspace
    training: Training
    past: Past
    step_s: float
    dataset: Path

    @cached_property
    def description(self) -> DatasetDescription:
        return DatasetDescription.read(self.dataset / DATASET_NAME)

    def train(self) -> PlannedStep:
        config = self.training.config
        updates = self._updates(config)
        told = f"{config.epochs} epochs, {updates:,} steps of {config.global_batch_size} examples"
        if self.workspace.find("train", self.training.key) is not None:
            return PlannedStep(step="train", work=told, seconds=0.0, basis="done")
        rate = self.past.examples_per_second(self.training)
        if rate is not None:
            examples = config.epochs * self.description.rows["train"]
            return self._planned("train", told, _START_TRAINING_S + examples / rate, "earlier runs")
        return self._planned("train", told, _START_TRAINING_S + updates * self._worker_step_s(), "timed")

    def compress(self, chains: list[Chain]) -> PlannedStep:
        trainings = self._trainings(chains)
        told = f"{len(chains)} candidates"
        told += f", {len(trainings)} trainings" if trainings else ""
        told += "; some may be left out, others mended" if self._is_ladder() else ""
        measured = self.past.compress_seconds(self.resolved.recipe)
        if measured is not None:
            return self._planned("compress", told, measured, "earlier runs")
        updates = sum(self._updates(config) for config in trainings)
        training_s = len(trainings) * _START_TRAINING_S + updates * self._worker_step_s() * (1 + _TEACHER_SHARE)
        limit_s = self.resolved.recipe.compress.max_time
        seconds = len(chains) * _MAKE_VARIANT_S + training_s
        return self._planned("compress", told, min(seconds, limit_s or math.inf), "timed" if trainings else "assumed")

    def evaluate(self, count: int) -> PlannedStep:
        told = f"{count} measurements on {self.description.rows['validation']:,} rows of validation"
        return self._planned("evaluate", told, *self._measurements(count))

    def select(self) -> PlannedStep:
        told = f"{_TESTED} measurements on {self.description.rows['test']:,} rows of test"
        seconds = self.past.step_seconds("select")
        basis: Basis = "assumed" if seconds is None else "earlier runs"
        return self._planned("select", told, seconds or _SELECT_S + _TESTED * _START_MEASURING_S, basis)

    def register(self) -> PlannedStep:
        seconds = self.past.step_seconds("register")
        basis: Basis = "assumed" if seconds is None else "earlier runs"
        return self._planned("register", f"a version of {self.resolved.model_name}", seconds or _REGISTER_S, basis)

    def _measurements(self, count: int) -> tuple[float, Basis]:
        measured = self.past.measurement_seconds(self.resolved.recipe)
        if measured is not None:
            return count * measured, "earlier runs"
        return count * (_START_MEASURING_S + self.resolved.recipe.evaluate.latency_seconds), "assumed"

    def _trainings(self, chains: list[Chain]) -> list[TrainConfig]:
        """How each network of the candidates is trained, once for those that share it."""
        found: dict[tuple[str, ...], TrainConfig] = {}
        for chain in chains:
            for length, method in enumerate(chain.network, 1):
                learning = method.learning(self.resolved.recipe.compress, self.resolved.recipe.train)
                if learning is not None:
                    found[tuple(each.name for each in chain.network[:length])] = learning[0]
        return list(found.values())

    def _updates(self, config: TrainConfig) -> int:
        return config.epochs * math.ceil(self.description.rows["train"] / config.global_batch_size)

    def _worker_step_s(self) -> float:
        return self.step_s * (1 + _EXCHANGE_SHARE * (self.training.config.num_workers > 1))

    def _is_ladder(self) -> bool:
        return self.resolved.recipe.compress.candidates == "auto"

    @staticmethod
    def _planned(step: str, work: str, seconds: float, basis: Basis) -> PlannedStep:
        return PlannedStep(step=step, work=work, seconds=seconds, basis=basis)


def _rows(description: DatasetDescription) -> str:
    return ", ".join(f"{count:,} rows of {split}" for split, count in description.rows.items())


def _disk_bytes(num_parameters: int, chains: list[Chain]) -> int:
    networks = {chain.network for chain in chains}
    weights_bytes = num_parameters * _BYTES_PER_PARAMETER
    return weights_bytes * (_MODEL_COPIES + len(networks) + len(chains)) + _RUN_BYTES


def _directory_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir())
