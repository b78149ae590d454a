"""What the processes of a training run tell each other, and what a finished one leaves beside its model."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from windlass.models.spec import ModelSpec
from windlass.schema import Document, Section, digest_of
from windlass.storage import Reference
from windlass.training.config import TrainConfig

TRAINING_NAME = "training.json"
REQUEST_NAME = "request.json"
STATUS_NAME = "status.json"
FAILURES_NAME = "failures.json"
MODULE_DIRECTORY = "module"


def request_name(key: str) -> str:
    """The document below the root that tells the pods of a job what to do."""
    return f"jobs/train/{key}/request.json"


def ending_name(key: str) -> str:
    """The document below the root in which a pod says that no restart will help."""
    return f"jobs/train/{key}/ending.json"


class Publication(Section):
    """Where the workers of several machines leave their result: `<root>/steps/train/<key>/`."""

    root: str
    local: Path
    """Of this machine: copies, and what is not uploaded yet."""
    key: str
    checkpoints: Literal["root", "work"]
    """Below the root, or in the work directory, which all workers then share."""


class TrainRequest(Document):
    """What each worker is told to do."""

    format_version: Literal[1] = 1
    config: TrainConfig
    task: str
    spec: ModelSpec
    dataset: Path
    output: Path | None
    """Gets the model; None where the first worker publishes it."""
    publication: Publication | None = None
    work: Path
    control: Path
    """The user's module, and where the workers leave word for the process that launched them."""
    launcher_pid: int | None = None
    """When this process is gone, the workers save and stop; None where something else watches over them."""

    def training_digest(self, fingerprint: str) -> str:
        """Of everything that the resulting weights depend on: a checkpoint of another training is not continued."""
        config = self.config.model_dump(mode="json", exclude={"num_workers", "keep_checkpoints"})
        return digest_of([config, self.task, self.spec.model_dump(mode="json"), fingerprint])


class ErrorReport(Section):
    """An error of ours on its way to another process; JSON has no infinity, so its data is text."""

    name: str
    message: str
    exit_code: int
    data: dict[str, str] = Field(default_factory=dict)


class Status(Document):
    """How a worker says it ended."""

    format_version: Literal[1] = 1
    state: Literal["finished", "interrupted", "failed"]
    step: int | None = None
    error: ErrorReport | None = None


class WorkerFailure(Section):
    """How torchrun saw a worker end: a negative code is a signal."""

    rank: int
    exit_code: int
    cause: str = ""
    traceback: str = ""


class Failures(Document):
    format_version: Literal[1] = 1
    workers: tuple[WorkerFailure, ...]


class Learning(Section):
    """What a network learns from, if not from fresh weights and labels alone."""

    start: Reference | None = None
    """The published model whose weights it begins with; of the same specification."""
    teacher: Reference | None = None
    """The published model whose answers it learns from beside the labels."""
    temperature: float = 1.0
    """Softens the teacher's and the network's probabilities; Hinton et al. (2015), `Distilling the Knowledge`."""
    label_weight: float = 1.0
    """Share of the labels in the loss; the rest is the teacher's."""
    fake_quantized: bool = False
    """In training, weights and activations are rounded as int8 will round them; Jacob et al. (2018)."""


class Training(Section):
    """One training, wherever it runs: `config.num_workers` workers make the model of `spec` on a published dataset."""

    config: TrainConfig
    task: str
    spec: ModelSpec
    module: Reference | None
    """The user's own source file, published, if `spec` names a class of it."""
    dataset: Reference
    key: str
    """The model is published under `<root>/steps/train/<key>/`."""
    learning: Learning = Learning()


class PodTrainRequest(Document):
    """What each pod of a training job is told to do: `<root>/jobs/train/<key>/request.json`."""

    format_version: Literal[1] = 1
    training: Training
    workers_per_pod: int
    threads: int
    """Of one worker."""
    checkpoint_directory: Path | None
    """On a volume that is mounted in all pods; None keeps checkpoints below the root."""


class PodEnding(Document):
    """How a pod ended without success: its termination message, of at most 4,096 bytes."""

    format_version: Literal[1] = 1
    retryable: bool
    """Whether a restart can go on from the newest checkpoint."""
    error: ErrorReport


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
