"""What watches a training: its history, its progress, and its figures for the summary."""

from __future__ import annotations

from windlass.progress import Tracker
from windlass.training.documents import EpochRecord
from windlass.training.history import History


class HistoryCallback:
    """Writes both curves; what a continued run does again is forgotten first."""

    def __init__(self, history: History) -> None:
        self.history = history

    def on_start(self, step: int, total_steps: int) -> None:  # noqa: ARG002 - the protocol's
        self.history.rewind(step)

    def on_steps(self, first_step: int, losses: list[float]) -> None:
        self.history.write_steps(first_step, losses)

    def on_epoch(self, record: EpochRecord) -> None:
        self.history.write_epoch(record)


class ProgressCallback:
    """Moves the bar, with the newest loss and metric beside it."""

    def __init__(self, tracker: Tracker, metric: str) -> None:
        self.tracker, self.metric = tracker, metric
        self.figures: dict[str, float] = {}

    def on_start(self, step: int, total_steps: int) -> None:
        self.tracker.total = total_steps
        self.tracker.update(step)

    def on_steps(self, first_step: int, losses: list[float]) -> None:
        self.figures["loss"] = losses[-1]
        self.tracker.update(first_step + len(losses) - 1, **self.figures)

    def on_epoch(self, record: EpochRecord) -> None:
        if record.metric is not None:
            self.figures[f"validation {self.metric}"] = record.metric
        self.tracker.update(record.step, **self.figures)
