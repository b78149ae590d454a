"""Starts torchrun on this machine, watches it, and turns how it ended into a model or an error."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from windlass import progress
from windlass.errors import CorruptedError, InvalidInputError, WindlassError
from windlass.models.spec import HISTORY_NAME, MODULE_NAME, ModelSpec
from windlass.training.config import TrainConfig
from windlass.training.documents import (
    FAILURES_NAME,
    MODULE_DIRECTORY,
    REQUEST_NAME,
    STATUS_NAME,
    EpochRecord,
    Failures,
    Status,
    TrainRequest,
    WorkerFailure,
)
from windlass.training.errors import (
    CheckpointSpaceError,
    TrainingDivergedError,
    TrainingFailedError,
    TrainingInterruptedError,
    TrainingMemoryError,
    WorkerKilledError,
)
from windlass.training.history import read_epochs

MOST_RESTARTS = 3
_POLL_S = 0.2
_OOM_EVENTS = Path("/sys/fs/cgroup/memory.events")
_OOM_CAUSES = ("OutOfMemoryError", "MemoryError", "can't allocate memory", "CUDA out of memory")


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
    on_metrics: Callable[[EpochRecord], None] | None = None,
) -> None:
    """Train a model with `config.num_workers` workers of this machine, from the newest checkpoint on if there is one.

    Args:
        module_path: the user's own module, if `spec` names a class of it.
        dataset: a dataset bundle.
        output: an existing directory; gets model.json, model.safetensors, history.jsonl, steps.jsonl, training.json.
        work: an existing directory that holds the checkpoints; keep it until the model is published.
        threads: of the machine, divided among the workers.
        on_metrics: called for each epoch, also for those that an earlier run did.

    Raises:
        TrainingInterruptedError: SIGTERM or Ctrl-C; a checkpoint is saved.
        TrainingDivergedError: a gradient is not finite.
        TrainingMemoryError, WorkerKilledError, TrainingFailedError: a worker did not survive.
        CheckpointSpaceError: the disk is full.
        InvalidInputError, CorruptedError: of the user's module, the dataset, or a setting that this machine lacks.
    """
    if module_path is not None:
        (work / MODULE_DIRECTORY).mkdir(exist_ok=True)
        shutil.copyfile(module_path, work / MODULE_DIRECTORY / MODULE_NAME)
    with tempfile.TemporaryDirectory(prefix="windlass-train-") as control:
        request = TrainRequest(
            config=config,
            task=task,
            spec=spec,
            dataset=dataset.resolve(),
            output=output.resolve(),
            work=work.resolve(),
            control=Path(control),
            launcher_pid=os.getpid(),
        )
        request.write(Path(control) / REQUEST_NAME)
        Launch(request, threads, on_metrics).run()


class Launch:
    """One request, and as many starts of torchrun as it takes."""

    def __init__(self, request: TrainRequest, threads: int, on_metrics: Callable[[EpochRecord], None] | None) -> None:
        self.request, self.threads, self.on_metrics = request, threads, on_metrics
        self.told_epochs = 0
        self.stopping = False

    def run(self) -> None:
        """Start, and start again from the newest checkpoint when a worker was killed."""
        for restarts in range(MOST_RESTARTS + 1):
            ooms_before = _count_ooms()
            exit_code = self._run_torchrun()
            status, failures = self._reports()
            if status is not None and status.state == "finished":
                return
            if self.stopping or (status is not None and status.state == "interrupted"):
                raise TrainingInterruptedError(None if status is None else status.step)
            if status is not None:
                raise _own_error(status)
            failure = _root_cause(failures, exit_code)
            if _count_ooms() > ooms_before:
                raise TrainingMemoryError(failure.rank, "killed by the system")
            if failure.exit_code >= 0:
                raise _foreign_error(failure)
            name = signal.Signals(-failure.exit_code).name
            if restarts == MOST_RESTARTS:
                raise WorkerKilledError(failure.rank, name, restarts)
            progress.message(f"worker {failure.rank} was killed by {name}; continuing from the newest checkpoint")

    def _run_torchrun(self) -> int:
        control = self.request.control
        command = [sys.executable, "-m", "windlass.training.agent", str(control / FAILURES_NAME)]
        command += ["--standalone", "--local-addr", "127.0.0.1", "--max-restarts", "0"]
        command += ["--nproc-per-node", str(self.request.config.num_workers), "--log-dir", str(control / "logs")]
        command += ["--module", "windlass.training.worker", str(control / REQUEST_NAME)]
        # In a session of its own: Ctrl-C reaches this process only, which passes it on once.
        process = subprocess.Popen(command, env=self._environment(), start_new_session=True)
        with self._passing_signals_to(process):
            while True:
                try:
                    exit_code = process.wait(_POLL_S)
                except subprocess.TimeoutExpired:
                    self._tell_metrics()
                    continue
                self._tell_metrics()
                return exit_code

    def _environment(self) -> dict[str, str]:
        threads = max(1, self.threads // self.request.config.num_workers)
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "LOGLEVEL": "CRITICAL"}
        if sys.platform == "linux":
            environment["GLOO_SOCKET_IFNAME"] = "lo"
        return environment

    @contextmanager
    def _passing_signals_to(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        """SIGTERM and Ctrl-C of this process ask the workers to save and end; others' handlers come back after."""

        def pass_on(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the handler's form
            if not self.stopping:
                self.stopping = True
                process.send_signal(signal.SIGTERM)

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _tell_metrics(self) -> None:
        if self.on_metrics is None:
            return
        for record in read_epochs(self.request.work / HISTORY_NAME):
            if record.epoch > self.told_epochs:
                self.on_metrics(record)
                self.told_epochs = record.epoch

    def _reports(self) -> tuple[Status | None, Failures | None]:
        """What the workers and torchrun left behind; a restart must not find it."""
        status_path, failures_path = (self.request.control / name for name in (STATUS_NAME, FAILURES_NAME))
        status = Status.read(status_path) if status_path.exists() else None
        failures = Failures.read(failures_path) if failures_path.exists() else None
        status_path.unlink(missing_ok=True)
        failures_path.unlink(missing_ok=True)
        return status, failures


def _root_cause(failures: Failures | None, exit_code: int) -> WorkerFailure:
    """The worker that was killed, if one was: the others then fail because they miss it."""
    if failures is None:
        return WorkerFailure(rank=0, exit_code=exit_code, cause=f"torchrun ended with code {exit_code}")
    killed = [worker for worker in failures.workers if worker.exit_code < 0]
    return (killed or list(failures.workers))[0]


def _own_error(status: Status) -> WindlassError:
    message = status.message or ""
    if status.error == TrainingDivergedError.__name__:
        return TrainingDivergedError(int(status.data["step"]), float(status.data["norm"]))
    if status.error == CheckpointSpaceError.__name__:
        return CheckpointSpaceError(status.data["directory"])
    if status.error == CorruptedError.__name__:
        return CorruptedError(message)
    return InvalidInputError(message)


def _foreign_error(failure: WorkerFailure) -> WindlassError:
    if any(cause in failure.cause for cause in _OOM_CAUSES):
        return TrainingMemoryError(failure.rank, failure.cause)
    return TrainingFailedError(failure.rank, failure.cause or f"exit code {failure.exit_code}", failure.traceback)


def _count_ooms() -> int:
    """Processes of this control group that the kernel killed for memory; 0 where the system does not say."""
    try:
        lines = _OOM_EVENTS.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
