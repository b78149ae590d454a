"""One worker of a training run, in a process of its own that `windlass.training.agent` starts."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.optim import Optimizer

from windlass import models
from windlass.data.description import DatasetDescription, PixelsTransform
from windlass.errors import EXIT_INTERRUPTED, InvalidInputError, WindlassError
from windlass.models.preprocess import PixelScaling
from windlass.models.spec import MODULE_NAME
from windlass.progress import track
from windlass.storage import Workspace
from windlass.tasks import Task, get_task
from windlass.training.arrays import TrainArrays, class_weights
from windlass.training.augment import Augment
from windlass.training.callbacks import HistoryCallback, ProgressCallback
from windlass.training.checkpoint import Checkpoints, CheckpointStore, TrainState, is_full_disk
from windlass.training.checkpoint_stores import PublishedDirectory, SharedDirectory
from windlass.training.documents import (
    MODULE_DIRECTORY,
    STATUS_NAME,
    TRAINING_NAME,
    Status,
    TrainingSummary,
    TrainRequest,
)
from windlass.training.errors import CheckpointSpaceError, PeerFailedError, TrainingInterruptedError
from windlass.training.fake_quantization import FakeQuantized, RangesCalibrated
from windlass.training.history import History
from windlass.training.optimizers import build_optimizer
from windlass.training.relay import TRACKER_NAME, RelayCallback
from windlass.training.reports import describe_error
from windlass.training.sampler import GlobalBatchSampler
from windlass.training.step import DistillationStep, StepStrategy, SupervisedStep, ZerosKept
from windlass.training.trainer import Callback, Parts, Trainer
from windlass.training.validation import Validation
from windlass.training.workers import Workers

PROCESS_NAME = "windlass-worker"
"""15 letters, as many as Linux keeps."""


class StopRequest:
    """Whether this worker should save and end: it got SIGTERM, or nobody waits for its result any more."""

    def __init__(self, launcher_pid: int | None) -> None:
        self.launcher_pid, self.agent = launcher_pid, multiprocessing.parent_process()
        self.signalled = False
        signal.signal(signal.SIGTERM, self._on_signal)
        # Ctrl-C reaches the launcher, which asks all workers at once.
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def __call__(self) -> bool:
        return self.signalled or not self._agent_lives() or not self._launcher_lives()

    def _agent_lives(self) -> bool:
        return self.agent is None or self.agent.is_alive()

    def _launcher_lives(self) -> bool:
        if self.launcher_pid is None:
            return True
        try:
            os.kill(self.launcher_pid, 0)
        except ProcessLookupError:
            return False
        return True

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the handler's form
        self.signalled = True


class TrainingRun:
    """A request carried out by this worker together with the others."""

    def __init__(self, request: TrainRequest, workers: Workers, stop: Callable[[], bool]) -> None:
        self.request, self.workers, self.stop = request, workers, stop
        self.task: Task = get_task(request.task)
        self.arrays = workers.together(lambda: TrainArrays.open(request.dataset, workers.device))
        self.workspace: Workspace | None = None
        if request.publication is not None:
            self.workspace = Workspace(request.publication.root, request.publication.local)
        self.store = self._checkpoint_store()
        self.checkpoints = Checkpoints(self.store, workers, keep=request.config.keep_checkpoints)
        self._check_rows()
        torch.manual_seed(request.config.seed)
        self.network = self._initial_network().to(workers.device)
        fake_quantized = request.learning.fake_quantized
        self.trained: nn.Module = FakeQuantized(self.network) if fake_quantized else self.network
        # Each worker's own dropout, the same when it is started again.
        torch.manual_seed(request.config.seed * 1_000_003 + workers.rank + 1)

    def _initial_network(self) -> nn.Module:
        request = self.request
        if request.start is None:
            return models.build(request.spec, request.control / MODULE_DIRECTORY)
        spec, network = models.load(request.start)
        assert spec == request.spec
        return network

    def carry_out(self) -> TrainState:
        """Train, then publish the best epoch's weights; only the first worker writes."""
        with ExitStack() as stack:
            callbacks: tuple[Callback, ...] = ()
            history = History(self.request.work)
            if self.workers.is_first:
                tracker = stack.enter_context(track(TRACKER_NAME, unit="steps"))
                callbacks = (HistoryCallback(history), ProgressCallback(tracker, self.task.metric))
                if self.workspace is not None:
                    callbacks = (*callbacks, RelayCallback())
            trainer = self._trainer(callbacks)
            state = trainer.fit()
        if state.best_step != state.step:
            self.checkpoints.load(trainer.tensors(), state.best_step)
        # The others wait, so that all are started again if the model does not get to its place.
        self.workers.together(lambda: self._publish(state, history) if self.workers.is_first else None)
        return state

    def _checkpoint_store(self) -> CheckpointStore:
        publication = self.request.publication
        if self.workspace is None or publication is None or publication.checkpoints == "work":
            return SharedDirectory(self.request.work, self.workers)
        return PublishedDirectory(self.workspace, publication.key, self.request.work, self.workers)

    def _trainer(self, callbacks: tuple[Callback, ...]) -> Trainer:
        config, workers, description = self.request.config, self.workers, self.arrays.description
        optimizer = build_optimizer(config, self.network.parameters())
        preprocess = preprocessing(description).to(workers.device)
        sampler = GlobalBatchSampler(
            num_examples=len(self.arrays.train),
            global_batch_size=config.global_batch_size,
            seed=config.seed,
            rank=workers.rank,
            num_workers=workers.count,
            device=workers.device,
        )
        validation = Validation(
            network=self.trained,
            preprocess=preprocess,
            split=self.arrays.validation,
            task=self.task,
            description=description,
            workers=workers,
        )
        parts = Parts(
            features=self.arrays.train.features,
            targets=self.arrays.train.targets,
            network=self.network,
            optimizer=optimizer,
            sampler=sampler,
            strategy=self._strategy(optimizer, preprocess),
            preprocess=preprocess,
            augment=self._augment(),
            evaluate=validation,
            callbacks=callbacks,
            stop_requested=self.stop,
        )
        digest = self.request.training_digest(description.fingerprint)
        return Trainer(config, parts, workers=workers, checkpoints=self.checkpoints, training_digest=digest)

    def _strategy(self, optimizer: Optimizer, preprocess: nn.Module) -> StepStrategy:
        learning = self.request.learning
        step: dict[str, Any] = {
            "model": self.workers.wrap(self.trained),
            "optimizer": optimizer,
            "task": self.task,
            "weights_C": self._class_weights(),
            "config": self.request.config,
            "device": self.workers.device,
        }
        strategy: StepStrategy
        if self.request.teacher is None:
            strategy = SupervisedStep(**step)
        else:
            _, teacher = models.load(self.request.teacher)
            strategy = DistillationStep(
                teacher=teacher.to(self.workers.device),
                temperature=learning.temperature,
                label_weight=learning.label_weight,
                **step,
            )
        if learning.zeros_kept:
            strategy = ZerosKept(strategy, self.network)
        if isinstance(self.trained, FakeQuantized):
            features = self.arrays.train.features
            rows = features[:: max(1, len(features) // learning.calibration_rows)]
            strategy = RangesCalibrated(strategy, self.trained, lambda: preprocess(rows))
        return strategy

    def _check_rows(self) -> None:
        if len(self.arrays.train) == 0:
            raise InvalidInputError("the dataset has no rows to train on; make data.split.validation and test smaller")
        if self.request.config.early_stopping is not None and len(self.arrays.validation) == 0:
            raise InvalidInputError(
                "train.early_stopping needs validation rows and there are none; "
                "set data.split.validation above 0, or leave early stopping out"
            )

    def _class_weights(self) -> Tensor | None:
        if self.request.config.class_weights == "none":
            return None
        if self.task.target_kind != "class":
            raise InvalidInputError(f"train.class_weights: {self.task.name} has no classes; use none")
        return class_weights(self.arrays.train.targets, self.task.num_outputs(self.arrays.description))

    def _augment(self) -> Augment | None:
        config = self.request.config.augment
        if not (config.shift or config.flip or config.crop or config.erase):
            return None
        if self.task.modality != "images":
            raise InvalidInputError(f"train.augment: {self.task.name} has no images to change; leave it out")
        return Augment(config, self.request.config.seed)

    def _publish(self, state: TrainState, history: History) -> None:
        publication, output = self.request.publication, self.request.output
        if self.workspace is None or publication is None:
            assert output is not None
            self._write_model(output, state, history)
            return
        self.workspace.once("train", publication.key, lambda directory: self._write_model(directory, state, history))
        if isinstance(self.store, PublishedDirectory):
            self.store.clear()
        else:
            shutil.rmtree(self.request.work)

    def _write_model(self, output: Path, state: TrainState, history: History) -> None:
        source = self.request.control / MODULE_DIRECTORY / MODULE_NAME
        user_module = self.request.spec.module_sha256 is not None
        models.save(output, self.request.spec, self.network.cpu().eval(), source if user_module else None)
        for path in (history.epochs_path, history.steps_path):
            shutil.copyfile(path, output / path.name)
        self._summary(state).write(output / TRAINING_NAME)

    def _summary(self, state: TrainState) -> TrainingSummary:
        device = self.workers.device
        return TrainingSummary(
            metric=self.task.metric,
            best_epoch=state.best_epoch,
            best_metric=state.best_metric,
            epochs=state.epoch,
            steps=state.step,
            stopped_early=state.stopped_early,
            seconds=state.seconds,
            examples_per_second=state.epoch * len(self.arrays.train) / state.seconds,
            num_workers=self.workers.count,
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            num_parameters=sum(parameter.numel() for parameter in self.network.parameters()),
            warnings=(*self._warnings(), *self.checkpoints.warnings),
        )

    def _warnings(self) -> tuple[str, ...]:
        normalized = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in self.network.modules())
        if not normalized or self.workers.count == 1:
            return ()
        return (
            f"batch norm: each of the {self.workers.count} workers used the statistics of its own part of the batch, "
            "so another number of workers gives another model",
        )


def preprocessing(description: DatasetDescription) -> nn.Module:
    """From encoded features to the network's inputs: scaling for pixels, nothing for an encoded table."""
    for transform in description.transforms:
        if isinstance(transform, PixelsTransform):
            return PixelScaling(transform.mean, transform.std)
    return nn.Identity()


def main(path: Path) -> None:
    """Take part in the training of this request, and leave word of how it ended."""
    _name_process()
    request = TrainRequest.read(path)
    stop = StopRequest(request.launcher_pid)
    try:
        workers = Workers.join(request.config.precision)
        with ExitStack() as stack:
            lock = stack.enter_context((request.work / ".lock").open("a"))
            # Workers of a launcher that was killed may still be saving.
            workers.together(lambda: fcntl.flock(lock, fcntl.LOCK_EX) if workers.is_first else None)
            state = TrainingRun(request, workers, stop).carry_out()
        report = Status(state="finished", step=state.step)
    except TrainingInterruptedError as error:
        report = Status(state="interrupted", step=error.step)
    except PeerFailedError:
        raise  # the one that failed leaves word
    except WindlassError as error:
        report = _failed(error)
    except OSError as error:
        if not is_full_disk(error):
            raise
        report = _failed(CheckpointSpaceError(str(request.work)))
    _leave_word(request.control, report)
    if report.state == "finished":
        distributed.destroy_process_group()
        # torchrun keeps this process until it has seen all of them finish.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    else:
        sys.exit(EXIT_INTERRUPTED if report.state == "interrupted" else 1)


def _name_process() -> None:
    """For `ps` and `top`: the command line is that of the server which this process was forked from."""
    if sys.platform == "linux":
        Path("/proc/self/comm").write_text(PROCESS_NAME, encoding="ascii")


def _failed(error: WindlassError) -> Status:
    return Status(state="failed", error=describe_error(error))


def _leave_word(control: Path, status: Status) -> None:
    """Several workers may say the same thing; each replaces the file as a whole."""
    temporary = control / f"{STATUS_NAME}.{os.getpid()}"
    status.write(temporary)
    temporary.replace(control / STATUS_NAME)
