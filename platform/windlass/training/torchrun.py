"""torchrun on this machine: a request is handed to it, and what its workers and it left behind is read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from windlass.errors import WindlassError
from windlass.training.documents import (
    FAILURES_NAME,
    REQUEST_NAME,
    STATUS_NAME,
    Failures,
    Status,
    TrainRequest,
    WorkerFailure,
)
from windlass.training.errors import TrainingFailedError, TrainingInterruptedError, TrainingMemoryError
from windlass.training.reports import rebuild_error

_POLL_S = 0.2
_OOM_EVENTS = (Path("/sys/fs/cgroup/memory.events"), Path("/sys/fs/cgroup/memory/memory.oom_control"))
"""Of the second and of the first version of control groups."""
_OOM_CAUSES = ("OutOfMemoryError", "MemoryError", "can't allocate memory", "CUDA out of memory")
_LOSS_CAUSES = (
    "PeerFailedError",
    "DistBackendError",
    "DistNetworkError",
    "DistStoreError",
    "gloo",
    "NCCL",
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "torchrun ended with code",
)
"""How a worker fails that misses another one, or torchrun where it does not reach the torchrun of another pod."""


@dataclass(frozen=True)
class Ending:
    """How one start of torchrun ended.

    Attributes:
        status: what a worker said, if one was able to.
        failure: the worker that failed first, as torchrun saw it.
        asked: whether this process was asked to stop.
        out_of_memory: whether the system killed a process for memory meanwhile.
    """

    status: Status | None
    failure: WorkerFailure
    asked: bool
    out_of_memory: bool

    @property
    def finished(self) -> bool:
        return self.status is not None and self.status.state == "finished"

    @property
    def killed_by(self) -> str | None:
        """The signal that killed a worker, such as SIGKILL."""
        return signal.Signals(-self.failure.exit_code).name if self.failure.exit_code < 0 else None

    @property
    def lost_a_worker(self) -> bool:
        """Whether the workers of this machine failed because they miss one of another machine."""
        return self.failure.exit_code >= 0 and is_loss(self.failure.cause)

    def final_error(self) -> WindlassError | None:
        """The error that no restart can mend, or the wish to stop; None after a loss that a restart may mend."""
        if self.asked or (self.status is not None and self.status.state == "interrupted"):
            return TrainingInterruptedError(None if self.status is None else self.status.step)
        if self.status is not None and self.status.error is not None:
            return rebuild_error(self.status.error)
        failure = self.failure
        if self.out_of_memory:
            return TrainingMemoryError(failure.rank, "killed by the system")
        if self.killed_by or self.lost_a_worker:
            return None
        if any(cause in failure.cause for cause in _OOM_CAUSES):
            return TrainingMemoryError(failure.rank, failure.cause)
        return TrainingFailedError(failure.rank, failure.cause or f"exit code {failure.exit_code}", failure.traceback)


class Torchrun:
    """torchrun, kept from one training to the next: `with Torchrun() as torchrun: torchrun.run(request, …)`.

    Each training has processes of its own. After one that did not finish, torchrun is started anew.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._started_as: tuple[list[str], dict[str, str]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self._process is not None:
            self._process.terminate()
        self._end()

    def run(
        self,
        request: TrainRequest,
        *,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        each_moment: Callable[[], None],
        first_rank: int = 0,
    ) -> Ending:
        """Have a request carried out and wait for the end; `each_moment` is called five times a second.

        SIGTERM and Ctrl-C of this process ask the workers to save and end.

        Args:
            arguments, environment: of torchrun; it is started anew where they are others than before.
            first_rank: of the workers of this machine, by which a torchrun is named that ends without their word.
        """
        control = request.control
        request.write(control / REQUEST_NAME)
        for name in (STATUS_NAME, FAILURES_NAME):
            (control / name).unlink(missing_ok=True)
        ooms_before = _count_ooms()
        process = self.start(arguments, environment)
        with _signals_passed_to(process) as asked:
            _hand_over(process, control)
            exit_code = _wait(process, control / FAILURES_NAME, each_moment)
        status_path, failures_path = control / STATUS_NAME, control / FAILURES_NAME
        failures = Failures.read(failures_path) if failures_path.exists() else None
        ending = Ending(
            status=Status.read(status_path) if status_path.exists() else None,
            failure=_root_cause(failures, exit_code, first_rank),
            asked=asked.is_set(),
            out_of_memory=_count_ooms() > ooms_before,
        )
        if not ending.finished:
            self._end()
        return ending

    def start(self, arguments: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start torchrun unless it runs like this already; ahead of a training, it has imported torch by then."""
        wanted = [*arguments], {**environment}
        if self._process is not None and (self._process.poll() is not None or self._started_as != wanted):
            self._end()
        if self._process is None:
            # In a session of its own: Ctrl-C reaches this process only, which passes it on once.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "windlass.training.agent", *arguments],
                stdin=subprocess.PIPE,
                env={**os.environ, "LOGLEVEL": "CRITICAL", **environment},
                start_new_session=True,
            )
            self._started_as = wanted
        return self._process

    def _end(self) -> None:
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._process = None


def is_loss(cause: str) -> bool:
    """Whether a worker failed only because it missed another one."""
    return any(text in cause for text in _LOSS_CAUSES)


def _hand_over(process: subprocess.Popen[bytes], control: Path) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it is gone; `_wait` says how
        process.stdin.write(f"{control}\n".encode())
        process.stdin.flush()


def _wait(process: subprocess.Popen[bytes], ended: Path, each_moment: Callable[[], None]) -> int:
    """Until the training has ended, or torchrun itself, whose exit code is returned."""
    exit_code: int | None = None
    while exit_code is None and not ended.exists():
        with suppress(subprocess.TimeoutExpired):
            exit_code = process.wait(_POLL_S)
        each_moment()
    return exit_code or 0


@contextmanager
def _signals_passed_to(process: subprocess.Popen[bytes]) -> Iterator[threading.Event]:
    """Others' handlers come back after; the event says that a signal was passed on."""
    asked = threading.Event()

    def pass_on(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the handler's form
        if not asked.is_set():
            asked.set()
            process.send_signal(signal.SIGTERM)

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    previous = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _root_cause(failures: Failures | None, exit_code: int, first_rank: int) -> WorkerFailure:
    """The worker that was killed, or failed by itself: the others then fail because they miss it."""
    if failures is None or not failures.workers:
        return WorkerFailure(rank=first_rank, exit_code=exit_code, cause=f"torchrun ended with code {exit_code}")
    killed = [worker for worker in failures.workers if worker.exit_code < 0]
    first = [worker for worker in failures.workers if not is_loss(worker.cause)]
    return (killed or first or list(failures.workers))[0]


def _count_ooms() -> int:
    """Processes of this control group that the kernel killed for memory; 0 where the system does not say."""
    lines: list[str] = []
    for path in _OOM_EVENTS:
        with suppress(OSError):
            lines += path.read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
