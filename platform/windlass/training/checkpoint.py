"""Checkpoints: `step-000123/` by torch distributed checkpoint, whole or absent, digests checked before loading.

Tensors only go into the shards; counters and the state of random generators are `state.json`. The folder is written
under a temporary name, flushed, given its manifest last, and renamed.
"""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import Field
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from windlass import progress
from windlass.errors import CorruptedError, InvalidInputError
from windlass.schema import Document
from windlass.storage import MANIFEST_NAME, Manifest, describe_directory, digest_file, flush, flush_tree
from windlass.training.errors import CheckpointSpaceError
from windlass.training.workers import Workers

STATE_NAME = "state.json"
_NAME = re.compile(r"step-(\d{6,})")
_TEMPORARY_PREFIX = ".writing-"


class TrainState(Document):
    """Where a training stands, beside its tensors. Schedule and sampler follow from the counters."""

    format_version: Literal[1] = 1
    training_digest: str
    step: int = 0
    """Updates done."""
    epoch: int = 0
    """Whole epochs done."""
    step_in_epoch: int = 0
    """Updates done of the epoch that is not whole yet."""
    loss_sum: float = 0.0
    """Of the losses of those updates."""
    epoch_seconds: float = 0.0
    seconds: float = 0.0
    metric: float | None = None
    """The main metric on validation after the last update; None in the middle of an epoch."""
    best_epoch: int = 0
    best_metric: float | None = None
    best_loss: float | None = None
    """On validation: it decides between epochs of equal metric."""
    best_step: int = 0
    waited_epochs: int = 0
    """Whole epochs since early stopping saw an improvement."""
    waited_metric: float | None = None
    stopped_early: bool = False
    strategy: dict[str, float] = Field(default_factory=dict)
    random_states: tuple[str, ...] = ()
    """Of each worker's generator for dropout, in hexadecimal."""


class Checkpoints:
    """The checkpoints of one training below its work directory."""

    def __init__(self, directory: Path, workers: Workers, *, keep: int) -> None:
        self.directory, self.workers, self.keep = directory, workers, keep
        self.warnings: list[str] = []

    def path(self, step: int) -> Path:
        return self.directory / f"step-{step:06d}"

    def steps(self) -> list[int]:
        """Steps of the checkpoints that are there, the newest first."""
        matches = (_NAME.fullmatch(path.name) for path in self.directory.iterdir())
        return sorted((int(match[1]) for match in matches if match), reverse=True)

    def save(self, tensors: dict[str, Tensor], state: TrainState) -> None:
        """Write a checkpoint together with all other workers, then drop those that are too many.

        Raises:
            CheckpointSpaceError: the disk is full; nothing is left of this checkpoint.
        """
        target = self.path(state.step)
        temporary = self.directory / f"{_TEMPORARY_PREFIX}{target.name}"
        size_bytes = sum(tensor.nbytes for tensor in tensors.values())
        with self._explain_full_disk(temporary, size_bytes):
            if self.workers.is_first:
                shutil.rmtree(temporary, ignore_errors=True)
                temporary.mkdir()
            self.workers.barrier()
            save({**tensors}, storage_writer=FileSystemWriter(temporary))
            if self.workers.is_first:
                state.write(temporary / STATE_NAME)
                describe_directory(temporary).write(temporary / MANIFEST_NAME)
                flush_tree(temporary)
                flush(temporary)
                shutil.rmtree(target, ignore_errors=True)
                temporary.rename(target)
                flush(self.directory)
                self._drop_old(state.best_step)
        self.workers.barrier()

    def newest_valid(self, training_digest: str) -> TrainState | None:
        """The state of the newest checkpoint that is whole; damaged ones are named and deleted.

        Only the first worker may call this.

        Raises:
            InvalidInputError: the checkpoints are of another training.
        """
        for leftover in self.directory.glob(f"{_TEMPORARY_PREFIX}*"):
            shutil.rmtree(leftover)
        newest: TrainState | None = None
        best: TrainState | None = None
        for step in self.steps():
            try:
                state = self.verify(step)
            except CorruptedError as error:
                self.warnings.append(f"{error}; the checkpoint before it is used")
                progress.message(self.warnings[-1])
                shutil.rmtree(self.path(step))
                continue
            if state.training_digest != training_digest:
                raise InvalidInputError(
                    f"{self.directory} holds checkpoints of another training; delete it, or use another directory"
                )
            newest = newest or state
            best = best or (state if state.step == newest.best_step else None)
        if newest is not None and best is None:
            # The best one was damaged: what is left starts a new competition.
            newest = newest.model_copy(update={"best_metric": None, "best_step": newest.step})
            if newest.metric is not None:
                newest = newest.model_copy(update={"best_metric": newest.metric, "best_epoch": newest.epoch})
        return newest

    def verify(self, step: int) -> TrainState:
        """Check every file of a checkpoint against its manifest, and return its state.

        Raises:
            CorruptedError: a file is missing or is not what was written; the message names it.
        """
        directory = self.path(step)
        for name, entry in Manifest.read(directory / MANIFEST_NAME).files.items():
            path = directory / name
            if not path.is_file() or path.stat().st_size != entry.size_bytes or digest_file(path) != entry.sha256:
                raise CorruptedError(f"{path} is damaged: its checksum is not the one in {MANIFEST_NAME}")
        return TrainState.read(directory / STATE_NAME)

    def load(self, tensors: dict[str, Tensor], step: int) -> None:
        """Fill the tensors in place, together with all other workers, whatever number of workers wrote them.

        Raises:
            CorruptedError: a file is missing or is not what was written.
        """
        # Its metadata is a pickle: it was written by us, and its digest has just been verified.
        self.verify(step)
        load({**tensors}, storage_reader=FileSystemReader(self.path(step)))

    def _drop_old(self, best_step: int) -> None:
        for step in self.steps()[self.keep :]:
            if step != best_step:
                shutil.rmtree(self.path(step))

    @contextmanager
    def _explain_full_disk(self, temporary: Path, size_bytes: int) -> Iterator[None]:
        try:
            yield
        except (OSError, CheckpointException) as error:
            # torch's writer hides the system's error behind one of its own.
            full = is_full_disk(error) or shutil.disk_usage(self.directory).free < size_bytes
            if self.workers.is_first:
                shutil.rmtree(temporary, ignore_errors=True)
            if full:
                raise CheckpointSpaceError(str(self.directory)) from error
            raise


def is_full_disk(error: BaseException) -> bool:
    """Whether the system said that a disk or a quota has no space left."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
