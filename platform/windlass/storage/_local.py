"""Published directories and documents on a local disk.

A directory is made under `tmp/` on the same file system, flushed to the disk, and renamed: a reader sees all of it
or nothing. Each temporary directory has a lock that its owner holds, so that those of dead processes can be told.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from windlass import progress
from windlass.storage._errors import InputChangedError, NotPublishedHereError, StorageFullError, WrongResultError
from windlass.storage._flush import flush, flush_tree
from windlass.storage._manifest import (
    MANIFEST_NAME,
    Manifest,
    Reference,
    StoredFile,
    check_name,
    describe_directory,
    verify_directory,
)

_FULL = {errno.ENOSPC, errno.EDQUOT}
_OCCUPIED = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}


class LocalStore:
    """Results below a directory of this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.uri = str(root)

    def find(self, name: str) -> Reference | None:
        directory = self.root / check_name(name)
        if not (directory / MANIFEST_NAME).is_file():
            return None
        return Reference(uri=str(directory), digest=Manifest.read(directory / MANIFEST_NAME).digest)

    def touch(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.utime(self.root / check_name(name) / MANIFEST_NAME)

    def list_files(self, prefix: str) -> list[StoredFile]:
        found = []
        for path in _files_below(self.root / check_name(prefix.rstrip("/"))):
            with suppress(FileNotFoundError):  # it was removed since
                status = path.lstat()
                name = path.relative_to(self.root).as_posix()
                found.append(StoredFile(name=name, size_bytes=status.st_size, modified_s=status.st_mtime))
        return found

    def make(self, name: str, make: Callable[[Path], None]) -> tuple[Reference, bool]:
        """Publish what `make` writes into a directory; see `publish`."""
        clean_temporary(self.root)
        target = self.root / check_name(name)
        with full_disk_explained(target), temporary_directory(self.root) as directory:
            make(directory)
            return self.publish(directory, name)

    def publish_files(self, source: Path, manifest: Manifest, name: str) -> Reference:
        """Publish a copy of files that belong to the user.

        Raises:
            InputChangedError: they were written to since the manifest was made.
        """

        def copy(directory: Path) -> None:
            for file_name in manifest.files:
                (directory / file_name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / file_name, directory / file_name)
            for file_name, entry in describe_directory(directory).files.items():
                if entry != manifest.files[file_name]:
                    raise InputChangedError(source / file_name)

        return self.make(name, copy)[0]

    def publish(self, source: Path, name: str) -> tuple[Reference, bool]:
        """Move a directory on the same file system to its name.

        Returns:
            What is published there now, and whether it is this one: of several that publish at once, one wins.
        """
        target = self.root / check_name(name)
        flush_tree(source)
        manifest = describe_directory(source)
        manifest.write(source / MANIFEST_NAME)
        flush(source / MANIFEST_NAME)
        flush(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        while not _renamed(source, target):
            if (winner := self.find(name)) is not None:
                return winner, False
            self._discard(target)
        flush(target.parent)
        return Reference(uri=str(target), digest=manifest.digest), True

    def fetch(self, reference: Reference) -> Path:
        directory = Path(reference.uri)
        manifest = Manifest.read(directory / MANIFEST_NAME)
        if manifest.digest != reference.digest:
            raise WrongResultError(reference.uri)
        verify_directory(directory, manifest)
        return directory

    def locate(self, reference: Reference) -> dict[str, str]:
        directory = self.fetch(reference)
        return {name: str(directory / name) for name in Manifest.read(directory / MANIFEST_NAME).files}

    def write_document(self, name: str, data: bytes, *, if_absent: bool) -> bool:
        target = self.root / check_name(name)
        with full_disk_explained(target), temporary_directory(self.root) as directory:
            path = directory / "document"
            path.write_bytes(data)
            flush(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            if not if_absent:
                path.replace(target)
            else:
                try:
                    target.hardlink_to(path)
                except FileExistsError:
                    return False
            flush(target.parent)
        return True

    def read_document(self, name: str) -> bytes | None:
        try:
            return (self.root / check_name(name)).read_bytes()
        except FileNotFoundError:
            return None

    def list_documents(self, prefix: str) -> list[str]:
        base = self.root / check_name(prefix.rstrip("/")) if prefix else self.root
        parent = base if prefix.endswith("/") or not prefix else base.parent
        names = (path.relative_to(self.root).as_posix() for path in _files_below(parent) if path.is_file())
        return sorted(name for name in names if name.startswith(prefix))

    def delete_document(self, name: str) -> None:
        (self.root / check_name(name)).unlink(missing_ok=True)

    def remove(self, reference: Reference, head: str = MANIFEST_NAME) -> None:  # noqa: ARG002 - all goes at once
        directory = Path(reference.uri).resolve()
        if not directory.is_relative_to(self.root) or directory == self.root:
            raise NotPublishedHereError(reference.uri, self.uri)
        self._discard(directory)

    def _discard(self, directory: Path) -> None:
        """Take a directory away at once, then delete it, so that no reader sees a part of it."""
        with temporary_directory(self.root) as trash, suppress(FileNotFoundError):
            directory.rename(trash / "discarded")


@contextmanager
def full_disk_explained(path: Path) -> Iterator[None]:
    """Say in words that a disk is full; `path` is named where the failed call names no file."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise StorageFullError(str(error.filename or path)) from error


@contextmanager
def temporary_directory(root: Path) -> Iterator[Path]:
    """A directory below `root/tmp` that is removed at the end, or by a later process if this one is killed."""
    parent = root / "tmp"
    parent.mkdir(parents=True, exist_ok=True)
    while True:
        directory = parent / uuid.uuid4().hex
        lock = directory.with_suffix(".lock")
        with lock.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_still(file, lock):
                continue  # a cleaner came between the two calls
            try:
                directory.mkdir()
                yield directory
            finally:
                shutil.rmtree(directory, ignore_errors=True)
                lock.unlink(missing_ok=True)
            return


def clean_temporary(root: Path) -> None:
    """Remove the temporary directories whose owners are dead: nobody holds their locks."""
    for lock in (root / "tmp").glob("*.lock"):
        with suppress(FileNotFoundError), lock.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, waiting_for: str) -> Iterator[None]:
    """Hold a lock among the processes of this machine; who has to wait is told for what."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.message(f"waiting for another process that is {waiting_for}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def locked_at_once(path: Path) -> Iterator[bool]:
    """Hold the lock of `locked` if nobody else holds it; says whether it is held."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _files_below(directory: Path) -> Iterator[Path]:
    """Files and links; folders that are removed meanwhile, by a step or by another process, are left out."""

    def explain(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    for folder, _, names in os.walk(directory, onerror=explain):
        for name in names:
            yield Path(folder, name)


def _is_still(file: IO[bytes], path: Path) -> bool:
    try:
        return os.fstat(file.fileno()).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _renamed(source: Path, target: Path) -> bool:
    """Whether the rename took place; not when the target is there already."""
    try:
        source.rename(target)
    except OSError as error:
        if error.errno not in _OCCUPIED:
            raise
        return False
    return True
