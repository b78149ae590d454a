"""What a published directory holds, and how others name it."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Literal, Self

from pydantic import ValidationError, field_validator

from windlass.errors import CorruptedError
from windlass.schema import Document, Section, canonical_json
from windlass.storage._errors import (
    InputNotFoundError,
    InvalidNameError,
    ObjectCorruptedError,
    ReservedNameError,
)

MANIFEST_NAME = "manifest.json"
_CLOCK_TICK_S = 0.05
"""A file system's clock may stand still this long, so a younger file could change and look the same."""


class FileEntry(Section):
    size_bytes: int
    sha256: str


def check_name(name: str) -> str:
    """A relative path of plain names, as it is.

    Raises:
        InvalidNameError: it is empty or absolute, or holds `..`, a backslash or a NUL.
    """
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or path.as_posix() != name or set(name) & {"\\", "\0"}:
        raise InvalidNameError(name)
    return name


class Manifest(Document):
    """Every file of a published directory, by its path inside it. Written last: without it there is nothing.

    `data` is the folder, relative to the manifest, below which the files lie. It is empty on a local disk; on an
    object store each attempt writes below a name of its own, so that two writers cannot mix their files.
    """

    format_version: Literal[1] = 1
    files: dict[str, FileEntry]
    data: str = ""

    @field_validator("files")
    @classmethod
    def _names_stay_inside(cls, files: dict[str, FileEntry]) -> dict[str, FileEntry]:
        for name in files:
            _checked(name)
        return files

    @field_validator("data")
    @classmethod
    def _data_stays_inside(cls, data: str) -> str:
        return _checked(data) if data else data

    @property
    def digest(self) -> str:
        """SHA-256 over names, sizes and digests of the files: equal content, equal digest, wherever it lies."""
        return hashlib.sha256(canonical_json(self.model_dump()["files"])).hexdigest()

    @property
    def size_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self.files.values())

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Self:
        """Check a manifest that was read from `where`.

        Raises:
            CorruptedError: it is not a manifest.
        """
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise CorruptedError(f"{where} is not a manifest of ours; delete what it lies in and run again") from error


class Reference(Section):
    """A published directory: where it lies and what it holds."""

    uri: str
    digest: str


class StoredFile(Section):
    """A file below a root, whoever wrote it."""

    name: str
    """Its path below the root."""
    size_bytes: int
    modified_s: float
    """Seconds since 1970, by the clock of the store."""


_known_digests: dict[tuple[int, ...], str] = {}
"""Digests computed by this process, so that gigabytes are read once; the key changes whenever the file does."""


def digest_file(path: Path) -> str:
    """SHA-256 of a file, as 64 hex digits. A file that has not changed is read only once per process."""
    with path.open("rb", buffering=0) as file:
        now_ns = time.time_ns()
        status = os.fstat(file.fileno())
        key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if key in _known_digests:
            return _known_digests[key]
        result = hashlib.file_digest(file, "sha256").hexdigest()
    if now_ns - status.st_ctime_ns > _CLOCK_TICK_S * 1e9:
        _known_digests[key] = result
    return result


def describe_input(path: Path, names: Collection[str] | None = None) -> Manifest:
    """The manifest of a user's file, or of a directory's files or those of them that are named; links count as files.

    Raises:
        InputNotFoundError: there is no file.
        ReservedNameError: a file is called as our manifest is.
    """
    if path.is_file():
        return Manifest(files={path.name: describe_file(path)})
    if names is None:
        names = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
    if not names:
        raise InputNotFoundError(path)
    if MANIFEST_NAME in names:
        raise ReservedNameError(path / MANIFEST_NAME)
    return Manifest(files={name: describe_file(path / name) for name in sorted(names)})


def describe_directory(directory: Path) -> Manifest:
    """The manifest of what lies in a local directory; links and special files are not part of it."""
    files = {
        path.relative_to(directory).as_posix(): describe_file(path)
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.is_symlink() and path != directory / MANIFEST_NAME
    }
    return Manifest(files=files)


def describe_file(path: Path) -> FileEntry:
    return FileEntry(size_bytes=path.stat().st_size, sha256=digest_file(path))


def verify_directory(directory: Path, manifest: Manifest) -> None:
    """Check that a local directory holds every file of the manifest as it was published.

    Raises:
        ObjectCorruptedError: names the first file that is missing or differs.
    """
    for name, entry in manifest.files.items():
        path = directory / name
        if not path.is_file():
            raise ObjectCorruptedError(name, str(directory), "it is missing")
        if (size_bytes := path.stat().st_size) != entry.size_bytes:
            problem = f"it has {size_bytes:,} bytes instead of {entry.size_bytes:,}"
            raise ObjectCorruptedError(name, str(directory), problem)
        if digest_file(path) != entry.sha256:
            raise ObjectCorruptedError(name, str(directory), "its SHA-256 differs")


def _checked(name: str) -> str:
    try:
        return check_name(name)
    except InvalidNameError as error:
        raise ValueError(str(error)) from None
