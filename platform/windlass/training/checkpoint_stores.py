"""Where checkpoints lie: in a directory that all workers share, or below the root of the run's results.

Either way a checkpoint that was not written to its end does not exist.
"""

from __future__ import annotations

import re
import shutil
import uuid
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from windlass.errors import CorruptedError
from windlass.models.spec import HISTORY_NAME, STEPS_NAME
from windlass.schema import Document
from windlass.storage import (
    MANIFEST_NAME,
    Manifest,
    Reference,
    Workspace,
    describe_directory,
    digest_file,
    flush,
    flush_tree,
)
from windlass.training.checkpoint import TEMPORARY_PREFIX, TrainState
from windlass.training.workers import Workers

STATE_NAME = "state.json"
CHECKPOINT_NAME = "checkpoint.json"
_NAME = re.compile(r"step-(\d{6,})")
_READING_PREFIX = ".reading-"
_HISTORIES = (HISTORY_NAME, STEPS_NAME)


def checkpoint_name(step: int) -> str:
    return f"step-{step:06d}"


class SharedDirectory:
    """A directory that every worker sees: of this machine, or of a volume that is mounted in all pods.

    A checkpoint is written under a temporary name, flushed, given its manifest last, and renamed.
    """

    def __init__(self, directory: Path, workers: Workers) -> None:
        self.directory, self.workers = directory, workers
        self.uri = str(directory)

    def steps(self) -> list[int]:
        matches = (_NAME.fullmatch(path.name) for path in self.directory.iterdir())
        return [int(match[1]) for match in matches if match]

    def begin(self, step: int) -> Path:
        temporary = self._temporary(step)
        if self.workers.is_first:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
        self.workers.barrier()
        return temporary

    def commit(self, step: int, state: TrainState) -> None:
        self.workers.together(lambda: self._publish(step, state) if self.workers.is_first else None)

    def fetch(self, step: int) -> tuple[TrainState, Path]:
        directory = self.directory / checkpoint_name(step)
        for name, entry in Manifest.read(directory / MANIFEST_NAME).files.items():
            path = directory / name
            if not path.is_file() or path.stat().st_size != entry.size_bytes or digest_file(path) != entry.sha256:
                raise CorruptedError(f"{path} is damaged: its checksum is not the one in {MANIFEST_NAME}")
        return TrainState.read(directory / STATE_NAME), directory

    def restore_history(self, step: int) -> None:
        """The curves lie beside the checkpoints."""

    def drop(self, step: int) -> None:
        shutil.rmtree(self.directory / checkpoint_name(step))

    def _temporary(self, step: int) -> Path:
        return self.directory / f"{TEMPORARY_PREFIX}{checkpoint_name(step)}"

    def _publish(self, step: int, state: TrainState) -> None:
        temporary, target = self._temporary(step), self.directory / checkpoint_name(step)
        state.write(temporary / STATE_NAME)
        describe_directory(temporary).write(temporary / MANIFEST_NAME)
        flush_tree(temporary)
        flush(temporary)
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
        flush(self.directory)


class PublishedCheckpoint(Document):
    """`checkpoint.json`, written last: without it there is no checkpoint.

    Each part is what one worker wrote, published with a manifest of its own.
    """

    format_version: Literal[1] = 1
    state: TrainState
    parts: tuple[Reference, ...]


class PublishedDirectory:
    """Checkpoints below `<root>/work/train/<key>/`, for workers that share no disk.

    Each worker writes its shards to its own disk and publishes them. The names of one attempt have a random part, so
    that what an attempt left that died in between is never taken for a part of another.
    """

    def __init__(self, workspace: Workspace, key: str, directory: Path, workers: Workers) -> None:
        self.workspace, self.directory, self.workers = workspace, directory, workers
        self.name = f"work/train/{key}"
        self.uri = f"{workspace.uri}/{self.name}"

    def steps(self) -> list[int]:
        names = (name.removeprefix(f"{self.name}/") for name in self.workspace.list_documents(f"{self.name}/"))
        folders = (name.removesuffix(f"/{CHECKPOINT_NAME}") for name in names if name.endswith(f"/{CHECKPOINT_NAME}"))
        return [int(match[1]) for folder in folders if (match := _NAME.fullmatch(folder))]

    def begin(self, step: int) -> Path:
        for leftover in self.directory.glob(f"{TEMPORARY_PREFIX}*-{self.workers.rank}"):
            shutil.rmtree(leftover)
        own = self._own(step)
        own.mkdir()
        return own

    def commit(self, step: int, state: TrainState) -> None:
        own, folder = self._own(step), self._folder(step)
        if self.workers.is_first:
            self._copy_history(self.directory, own)
        attempt = self.workers.gather_text(uuid.uuid4().hex[:8])[0]
        part = self.workers.together(
            lambda: self.workspace.publish(f"{folder}/{attempt}-{self.workers.rank}", own),
        )
        parts = [Reference.model_validate_json(text) for text in self.workers.gather_text(part.model_dump_json())]
        checkpoint = PublishedCheckpoint(state=state, parts=tuple(parts)).model_dump_json().encode()

        def finish() -> None:
            if self.workers.is_first:
                self.workspace.write_document(f"{folder}/{CHECKPOINT_NAME}", checkpoint)

        self.workers.together(finish)
        shutil.rmtree(own)

    def fetch(self, step: int) -> tuple[TrainState, Path]:
        checkpoint = self._read(step)
        directory = self.directory / f"{_READING_PREFIX}{self.workers.rank}"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        for part in checkpoint.parts:
            for path in self.workspace.fetch(part).iterdir():
                if path.name != MANIFEST_NAME:
                    (directory / path.name).symlink_to(path)
        return checkpoint.state, directory

    def restore_history(self, step: int) -> None:
        self._copy_history(self.workspace.fetch(self._read(step).parts[0]), self.directory)

    def drop(self, step: int) -> None:
        self.workspace.delete_document(f"{self._folder(step)}/{CHECKPOINT_NAME}")
        self._remove(self._folder(step))

    def clear(self) -> None:
        """Remove all checkpoints: the model is published."""
        self._remove(self.name)

    def _own(self, step: int) -> Path:
        return self.directory / f"{TEMPORARY_PREFIX}{checkpoint_name(step)}-{self.workers.rank}"

    def _folder(self, step: int) -> str:
        return f"{self.name}/{checkpoint_name(step)}"

    def _read(self, step: int) -> PublishedCheckpoint:
        name = f"{self._folder(step)}/{CHECKPOINT_NAME}"
        data = self.workspace.read_document(name)
        if data is None:
            raise CorruptedError(f"{self.workspace.uri}/{name} is missing")
        try:
            return PublishedCheckpoint.model_validate_json(data)
        except ValidationError as error:
            raise CorruptedError(f"{self.workspace.uri}/{name} is damaged: it is not what was written") from error

    def _copy_history(self, source: Path, target: Path) -> None:
        for name in _HISTORIES:
            if (source / name).is_file():
                shutil.copyfile(source / name, target / name)

    def _remove(self, name: str) -> None:
        # Unpublishing clears away everything below a name, unfinished uploads too.
        self.workspace.remove(Reference(uri=f"{self.workspace.uri}/{name}", digest="unpublished"))
