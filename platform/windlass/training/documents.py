"""What the processes of a training run tell each other, and what a finished one leaves beside its model."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from windlass.models.spec import ModelSpec
from windlass.schema import Document, Section, digest_of
from windlass.training.config import TrainConfig

TRAINING_NAME = "training.json"
REQUEST_NAME = "request.json"
STATUS_NAME = "status.json"
FAILURES_NAME = "failures.json"
MODULE_DIRECTORY = "module"


class TrainRequest(Document):
    """What each worker is told to do."""

    format_version: Literal[1] = 1
    config: TrainConfig
    task: str
    spec: ModelSpec
    dataset: Path
    output: Path
    work: Path
    control: Path
    """Where the workers leave word for the process that launched them."""
    launcher_pid: int | None = None
    """When this process is gone, the workers save and stop; None where something else watches over them."""

    def training_digest(self, fingerprint: str) -> str:
        """Of everything that the resulting weights depend on: a checkpoint of another training is not continued."""
        config = self.config.model_dump(mode="json", exclude={"num_workers", "keep_checkpoints"})
        return digest_of([config, self.task, self.spec.model_dump(mode="json"), fingerprint])


class Status(Document):
    """How a worker says it ended; `error` names the class of ours that it raised."""

    format_version: Literal[1] = 1
    state: Literal["finished", "interrupted", "failed"]
    step: int | None = None
    error: str | None = None
    message: str | None = None
    data: dict[str, str] = Field(default_factory=dict)


class WorkerFailure(Section):
    """How torchrun saw a worker end: a negative code is a signal."""

    rank: int
    exit_code: int
    cause: str = ""
    traceback: str = ""


class Failures(Document):
    format_version: Literal[1] = 1
    workers: tuple[WorkerFailure, ...]


class EpochRecord(Section):
    """A line of history.jsonl. `metric` is the task's main one, on validation; None without validation rows."""

    epoch: int
    step: int
    train_loss: float
    validation_loss: float | None
    metric: float | None
    quality: dict[str, float]
    learning_rate: float
    seconds: float


class TrainingSummary(Document):
    """`training.json`: what a person wants to know about a finished training."""

    format_version: Literal[1] = 1
    metric: str
    best_epoch: int
    best_metric: float | None
    epochs: int
    steps: int
    stopped_early: bool
    seconds: float
    """Of training alone, over all the times that it was continued."""
    examples_per_second: float
    num_workers: int
    device: str
    num_parameters: int
    warnings: tuple[str, ...]
