"""Training on this machine: torchrun is started, watched, and started again when a worker was killed."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from windlass import progress
from windlass.errors import CorruptedError
from windlass.models.spec import HISTORY_NAME, MODULE_NAME, ModelSpec
from windlass.storage import MANIFEST_NAME, digest_file
from windlass.training.config import TrainConfig
from windlass.training.documents import MODULE_DIRECTORY, EpochRecord, Learning, TrainRequest
from windlass.training.errors import WorkerKilledError, WorkerLostError
from windlass.training.history import read_epochs
from windlass.training.torchrun import Torchrun

MOST_RESTARTS = 3
_ALONE = ("--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "--local-addr", "127.0.0.1")
"""What `torchrun --standalone` means."""


def train(
    config: TrainConfig,
    *,
    task: str,
    spec: ModelSpec,
    module_path: Path | None,
    dataset: Path,
    output: Path,
    work: Path,
    threads: int,
    learning: Learning | None = None,
    start: Path | None = None,
    teacher: Path | None = None,
    on_metrics: Callable[[EpochRecord], None] | None = None,
    torchrun: Torchrun | None = None,
) -> None:
    """Train a model with `config.num_workers` workers of this machine, from the newest checkpoint on if there is one.

    Args:
        module_path: the user's own module, if `spec` names a class of it.
        dataset: a dataset bundle.
        output: an existing directory; gets model.json, model.safetensors, history.jsonl, steps.jsonl, training.json.
        work: an existing directory that holds the checkpoints; keep it until the model is published.
        threads: of the machine, divided among the workers.
        learning: from what, if not from fresh weights and labels alone.
        start, teacher: directories of the models that `learning` names.
        on_metrics: called for each epoch, also for those that an earlier run did.
        torchrun: kept for the next training; one for this training alone if None.

    Raises:
        TrainingInterruptedError: SIGTERM or Ctrl-C; a checkpoint is saved.
        TrainingDivergedError: a gradient is not finite.
        TrainingMemoryError, WorkerKilledError, TrainingFailedError: a worker did not survive.
        CheckpointSpaceError: the disk is full.
        InvalidInputError, CorruptedError: of the user's module, the dataset, or a setting that this machine lacks.
    """
    with tempfile.TemporaryDirectory(prefix="windlass-train-") as control:
        put_module(module_path, Path(control))
        request = TrainRequest(
            config=config,
            task=task,
            spec=spec,
            dataset=dataset.resolve(),
            learning=learning or Learning(),
            start=start and start.resolve(),
            teacher=teacher and teacher.resolve(),
            output=output.resolve(),
            work=work.resolve(),
            control=Path(control),
            launcher_pid=os.getpid(),
        )
        with nullcontext(torchrun) if torchrun else Torchrun() as kept:
            _Launch(request, threads, on_metrics).run(kept)


def start_ahead(torchrun: Torchrun, config: TrainConfig, threads: int) -> None:
    """Start the torchrun of trainings like this one, which takes seconds of imports."""
    torchrun.start(_arguments(config), _environment(config, threads))


def _arguments(config: TrainConfig) -> list[str]:
    return [*_ALONE, "--nproc-per-node", str(config.num_workers)]


def _environment(config: TrainConfig, threads: int) -> dict[str, str]:
    interface = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    return {"OMP_NUM_THREADS": str(max(1, threads // config.num_workers)), **interface}


def put_module(module_path: Path | None, control: Path) -> None:
    """Lay the user's module where the workers look for it."""
    if module_path is not None:
        (control / MODULE_DIRECTORY).mkdir(exist_ok=True)
        shutil.copyfile(module_path, control / MODULE_DIRECTORY / MODULE_NAME)


def find_module(directory: Path, spec: ModelSpec) -> Path:
    """The user's source file in a published directory.

    Raises:
        CorruptedError: it is not there.
    """
    for path in directory.iterdir():
        if path.name != MANIFEST_NAME and digest_file(path) == spec.module_sha256:
            return path
    raise CorruptedError(f"{directory} does not hold the source that the model is made from; run the step anew")


class _Launch:
    """One request, and as many starts of torchrun as it takes."""

    def __init__(self, request: TrainRequest, threads: int, on_metrics: Callable[[EpochRecord], None] | None) -> None:
        self.request, self.threads, self.on_metrics = request, threads, on_metrics
        self.told_epochs = 0

    def run(self, torchrun: Torchrun) -> None:
        """Start, and start again from the newest checkpoint when a worker was killed."""
        config = self.request.config
        for restarts in range(MOST_RESTARTS + 1):
            ending = torchrun.run(
                self.request,
                arguments=_arguments(config),
                environment=_environment(config, self.threads),
                each_moment=self._tell_metrics,
            )
            if ending.finished:
                return
            if error := ending.final_error():
                raise error
            rank, name = ending.failure.rank, ending.killed_by
            if restarts == MOST_RESTARTS and name is None:
                raise WorkerLostError(rank, ending.failure.cause, restarts)
            if restarts == MOST_RESTARTS and name is not None:
                raise WorkerKilledError(rank, name, restarts)
            what = f"worker {rank} {f'was killed by {name}' if name else 'lost the others'}"
            progress.message(f"{what}; continuing from the newest checkpoint")

    def _tell_metrics(self) -> None:
        if self.on_metrics is None:
            return
        for record in read_epochs(self.request.work / HISTORY_NAME):
            if record.epoch > self.told_epochs:
                self.on_metrics(record)
                self.told_epochs = record.epoch
