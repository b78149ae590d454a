"""Where a step trains, behind one interface: with torchrun on this machine, or as a job of the cluster.

with find_place(threads=4, pods=TrainingPods(...)) as place:
    reference, was_there = place.train(Training(...), workspace, watch)
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from windlass.cluster.settings import ClusterSettings
from windlass.storage import Reference, Workspace
from windlass.training.config import TrainConfig
from windlass.training.documents import Training
from windlass.training.launcher import find_module, start_ahead, train
from windlass.training.torchrun import Torchrun

if TYPE_CHECKING:
    from windlass.cluster.jobs import Owner
    from windlass.cluster.launcher import Launcher
    from windlass.training.cluster import TrainingPods

Watch = Callable[[Path], AbstractContextManager[object]]
"""Entered with the directory in which history.jsonl and steps.jsonl grow, while a model is trained."""


class Place(Protocol):
    """Trains and publishes once."""

    def expect(self, config: TrainConfig) -> None:
        """Something will be trained like this soon: get ready in the background what takes time."""

    def train(self, training: Training, workspace: Workspace, watch: Watch) -> tuple[Reference, bool]:
        """Train from the newest checkpoint on, unless the model is published already.

        Returns:
            The published model, and whether it was there before.

        Raises:
            TrainingInterruptedError: it was asked to stop; what was done is saved.
            TrainingDivergedError: a gradient is not finite.
            TrainingMemoryError, WorkerKilledError, WorkerLostError, TrainingFailedError: a worker did not survive.
            CheckpointSpaceError: a disk is full.
            InvalidInputError, CorruptedError: of the module, the dataset, or a setting that this place lacks.
            TrainingTimeoutError, JobError: what only a cluster can do to it.
        """


@dataclass(frozen=True)
class ThisMachine:
    """torchrun on this machine, one for all trainings of a step."""

    threads: int
    """Divided among the workers."""
    torchrun: Torchrun

    def expect(self, config: TrainConfig) -> None:
        start_ahead(self.torchrun, config, self.threads)

    def train(self, training: Training, workspace: Workspace, watch: Watch) -> tuple[Reference, bool]:
        module, spec, learning = training.module, training.spec, training.learning

        def make(output: Path) -> None:
            work = workspace.work_directory("train", training.key)
            with watch(work):
                train(
                    training.config,
                    task=training.task,
                    spec=spec,
                    module_path=find_module(workspace.fetch(module), spec) if module else None,
                    dataset=workspace.fetch(training.dataset),
                    output=output,
                    work=work,
                    threads=self.threads,
                    learning=learning,
                    start=workspace.fetch(learning.start) if learning.start else None,
                    teacher=workspace.fetch(learning.teacher) if learning.teacher else None,
                    torchrun=self.torchrun,
                )

        return workspace.once("train", training.key, make)


@dataclass(frozen=True)
class InCluster:
    """A job of the cluster; its first pod publishes."""

    settings: ClusterSettings
    pods: TrainingPods
    owner: Owner | None
    launcher: Launcher

    def expect(self, config: TrainConfig) -> None:
        """Pods hold their share of a cluster from when they are asked for, so none is asked for ahead."""

    def train(self, training: Training, workspace: Workspace, watch: Watch) -> tuple[Reference, bool]:
        from windlass.training.cluster import train_on_cluster

        if (found := workspace.find("train", training.key)) is not None:
            return found, True
        work = workspace.work_directory("train", training.key)
        with watch(work):
            reference = train_on_cluster(
                training,
                workspace,
                work=work,
                settings=self.settings,
                pods=self.pods,
                owner=self.owner,
                launcher=self.launcher,
            )
        shutil.rmtree(work)
        return reference, False


@contextmanager
def find_place(*, threads: int, pods: TrainingPods) -> Iterator[Place]:
    """In a pod of a run, the cluster of that run; this machine elsewhere.

    Raises:
        InvalidSettingsError: the settings of the run are of another version.
        ApiError: the run's service account lacks a right.
    """
    settings = ClusterSettings.from_environment()
    if settings is None:
        with Torchrun() as torchrun:
            yield ThisMachine(threads, torchrun)
        return
    from kubernetes import client, config

    from windlass.cluster.launcher import Launcher, find_owner, own_pod_name

    config.load_incluster_config()
    api = client.ApiClient()
    launcher = Launcher(api, kind=settings.training_kind, runtime=settings.training_runtime)
    yield InCluster(settings, pods, find_owner(api, settings.namespace, own_pod_name()), launcher)
