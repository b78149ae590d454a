"""A training's curves and progress, from the first worker's pod to the process that waits for the job.

They travel as lines of the pod's standard output, each with a prefix; what else a pod prints is passed on as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from windlass import progress
from windlass.errors import WindlassError
from windlass.training.documents import EpochRecord, PodEnding
from windlass.training.history import History

PREFIX = "@windlass "
TRACKER_NAME = "train"
_STARTED, _STEPS, _EPOCH, _ENDED = "train-started", "train-steps", "train-epoch", "train-ended"
_TRACKED = ("started", "progress", "finished")
_LOSS_DIGITS = 7


class PodsEndedError(WindlassError):
    """The pods say that no restart will help: whoever reads their log need not wait for the job's end."""

    def __init__(self, ending: PodEnding) -> None:
        super().__init__(ending.error.message)
        self.ending = ending


def print_ending(ending: PodEnding) -> None:
    """In the first pod: say that no restart will help."""
    _print(json.dumps({"kind": _ENDED, "ending": ending.model_dump(mode="json")}))


class RelayCallback:
    """On the first worker: tells the curves to whoever reads the events of this process."""

    def on_start(self, step: int, total_steps: int) -> None:
        progress.emit(_STARTED, step=step, total_steps=total_steps)

    def on_steps(self, first_step: int, losses: list[float]) -> None:
        # A line of a container's log has its limits; the model is published with the exact figures.
        progress.emit(_STEPS, first_step=first_step, losses=[float(f"{loss:.{_LOSS_DIGITS}g}") for loss in losses])

    def on_epoch(self, record: EpochRecord) -> None:
        progress.emit(_EPOCH, record=record.model_dump(mode="json"))


class EventsPrinter:
    """In the first pod: prints the events that were appended to a file since the last call."""

    def __init__(self, path: Path) -> None:
        self.path, self._offset = path, 0

    def __call__(self) -> None:
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                if self._is_wanted(json.loads(line)):
                    _print(line.decode().rstrip())

    @staticmethod
    def _is_wanted(event: dict[str, Any]) -> bool:
        # Each checkpoint uploads files, which has bars of its own.
        return event["kind"] not in _TRACKED or event["name"] == TRACKER_NAME


def _print(event: str) -> None:
    print(f"{PREFIX}{event}", flush=True)


class LogRelay:
    """In the process that waits: `with LogRelay(...) as relay: relay(line)` for each line of the first pod's log.

    Writes the same history.jsonl and steps.jsonl as a training on this machine, and shows the same progress.
    A line that comes twice, after a lost connection, counts once.
    """

    def __init__(self, work: Path, on_other: Callable[[str], None]) -> None:
        self._history, self._on_other = History(work), on_other
        self._step, self._epoch = 0, 0
        self._tracker: progress.Tracker | None = None
        self._stack = ExitStack()

    def __enter__(self) -> LogRelay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def __call__(self, line: str) -> None:
        """Take the next line.

        Raises:
            PodsEndedError: the pods gave up.
        """
        if not line.startswith(PREFIX):
            self._on_other(line)
            return
        try:
            event = json.loads(line.removeprefix(PREFIX))
        except ValueError:  # cut off where the pod was killed
            self._on_other(line)
            return
        kind = event["kind"]
        if kind == _STARTED:
            self._begin(event["step"])
        elif kind == _STEPS:
            self._add_steps(event["first_step"], event["losses"])
        elif kind == _EPOCH:
            self._add_epoch(EpochRecord.model_validate(event["record"]))
        elif kind == _ENDED:
            raise PodsEndedError(PodEnding.model_validate(event["ending"]))
        elif kind in _TRACKED:
            self._show(kind, event)
        else:
            progress.emit(**{key: value for key, value in event.items() if key != "time"})

    def _begin(self, step: int) -> None:
        self._history.rewind(step)
        self._step = step
        self._epoch = max((record.epoch for record in self._history.epochs()), default=0)

    def _add_steps(self, first_step: int, losses: list[float]) -> None:
        new = losses[max(0, self._step + 1 - first_step) :]
        if new:
            last = first_step + len(losses) - 1
            self._history.write_steps(last - len(new) + 1, new)
            self._step = last

    def _add_epoch(self, record: EpochRecord) -> None:
        if record.epoch > self._epoch:
            self._history.write_epoch(record)
            self._epoch = record.epoch

    def _show(self, kind: str, event: dict[str, Any]) -> None:
        if self._tracker is None:
            self._tracker = self._stack.enter_context(progress.track(TRACKER_NAME, unit=event["unit"]))
        if kind == "progress":
            self._tracker.total = event["total"]
            self._tracker.update(event["done"], **event["figures"])
