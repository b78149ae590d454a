"""Checkpoints: `step-000123/` by torch distributed checkpoint, whole or absent, digests checked before loading.

Tensors only go into the shards; counters and the state of random generators are JSON. Where they lie is the store's
business: a directory that all workers share, or the root of the run's results.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Protocol

from pydantic import Field
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from windlass import progress
from windlass.errors import CorruptedError, InvalidInputError
from windlass.schema import Document
from windlass.storage import StorageFullError
from windlass.training.errors import CheckpointSpaceError
from windlass.training.workers import Workers

TEMPORARY_PREFIX = ".writing-"


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


class CheckpointStore(Protocol):
    """Where the checkpoints of one training lie. `begin`, `commit` and `fetch` are called by all workers at once."""

    directory: Path
    """On this machine: what is being written lies here."""
    uri: str
    """For people."""

    def steps(self) -> list[int]:
        """Steps of the checkpoints that are there, in any order."""

    def begin(self, step: int) -> Path:
        """A directory for the shards of this worker."""

    def commit(self, step: int, state: TrainState) -> None:
        """Make what was written a checkpoint: all of it or nothing."""

    def fetch(self, step: int) -> tuple[TrainState, Path]:
        """The state, and a directory of this machine with all shards, their digests verified.

        Raises:
            CorruptedError: a file is missing or is not what was written; the message names it.
        """

    def restore_history(self, step: int) -> None:
        """Put back the curves that a checkpoint carries, where this machine may not have them."""

    def drop(self, step: int) -> None:
        """Remove a checkpoint."""


class Checkpoints:
    """The checkpoints of one training: which are kept, which one is continued."""

    def __init__(self, store: CheckpointStore, workers: Workers, *, keep: int) -> None:
        self.store, self.workers, self.keep = store, workers, keep
        self.warnings: list[str] = []

    def steps(self) -> list[int]:
        """Steps of the checkpoints that are there, the newest first."""
        return sorted(self.store.steps(), reverse=True)

    def save(self, tensors: dict[str, Tensor], state: TrainState) -> None:
        """Write a checkpoint together with all other workers, then drop those that are too many.

        Raises:
            CheckpointSpaceError: the disk is full; nothing is left of this checkpoint.
        """
        size_bytes = sum(tensor.nbytes for tensor in tensors.values())
        with self._explain_full_disk(size_bytes):
            save({**tensors}, storage_writer=FileSystemWriter(self.store.begin(state.step)))
            self.store.commit(state.step, state)
        self.workers.together(lambda: self._drop_old(state.best_step))

    def newest_valid(self, training_digest: str) -> TrainState | None:
        """The state of the newest checkpoint that is whole; damaged ones are named and deleted.

        Only the first worker may call this.

        Raises:
            InvalidInputError: the checkpoints are of another training.
        """
        self._clear_unfinished()
        newest: TrainState | None = None
        best: TrainState | None = None
        for step in self.steps():
            try:
                state = self.verify(step)
            except CorruptedError as error:
                self.warnings.append(f"{error}; the checkpoint before it is used")
                progress.message(self.warnings[-1])
                self.store.drop(step)
                continue
            if state.training_digest != training_digest:
                raise InvalidInputError(
                    f"{self.store.uri} holds checkpoints of another training; delete it, or use another directory"
                )
            newest = newest or state
            best = best or (state if state.step == newest.best_step else None)
            if best is not None:
                break
        if newest is None:
            return None
        self.store.restore_history(newest.step)
        if best is None:
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
        return self.store.fetch(step)[0]

    def load(self, tensors: dict[str, Tensor], step: int) -> None:
        """Fill the tensors in place, together with all other workers, whatever number of workers wrote them.

        Raises:
            CorruptedError: a file is missing or is not what was written.
        """
        # Its metadata is a pickle: it was written by us, and its digest has just been verified.
        _, directory = self.workers.together(lambda: self.store.fetch(step))
        load({**tensors}, storage_reader=FileSystemReader(directory))

    def _drop_old(self, best_step: int) -> None:
        if self.workers.is_first:
            for step in self.steps()[self.keep :]:
                if step != best_step:
                    self.store.drop(step)

    def _clear_unfinished(self) -> None:
        for leftover in self.store.directory.glob(f"{TEMPORARY_PREFIX}*"):
            shutil.rmtree(leftover, ignore_errors=True)

    @contextmanager
    def _explain_full_disk(self, size_bytes: int) -> Iterator[None]:
        try:
            yield
        except (OSError, CheckpointException, StorageFullError) as error:
            # torch's writer hides the system's error behind one of its own.
            full = isinstance(error, StorageFullError) or is_full_disk(error)
            full = full or shutil.disk_usage(self.store.directory).free < size_bytes
            if self.workers.is_first:
                self._clear_unfinished()
            if full:
                raise CheckpointSpaceError(str(self.store.directory)) from error
            raise


def is_full_disk(error: BaseException) -> bool:
    """Whether the system said that a disk or a quota has no space left."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
