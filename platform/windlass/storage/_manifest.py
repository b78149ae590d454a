"""What a published directory holds, and how others name it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from windlass.schema import Document, Section, canonical_json

MANIFEST_NAME = "manifest.json"
_CHUNK_BYTES = 1 << 20


class FileEntry(Section):
    size_bytes: int
    sha256: str


class Manifest(Document):
    """Every file of a published directory, by its path inside it. Written last: without it there is nothing.

    `data` is the folder, relative to the manifest, below which the files lie. It is empty on a local disk; on an
    object store each attempt writes below a name of its own, so that two writers cannot mix their files.
    """

    format_version: Literal[1] = 1
    files: dict[str, FileEntry]
    data: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 over names, sizes and digests of the files: equal content, equal digest, wherever it lies."""
        return hashlib.sha256(canonical_json(self.model_dump()["files"])).hexdigest()

    @property
    def size_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self.files.values())


class Reference(Section):
    """A published directory: where it lies and what it holds."""

    uri: str
    digest: str


def digest_file(path: Path) -> str:
    """SHA-256 of a file, as 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def describe_directory(directory: Path) -> Manifest:
    """The manifest of what lies in a local directory; links and special files are not part of it."""
    files = {
        path.relative_to(directory).as_posix(): FileEntry(size_bytes=path.stat().st_size, sha256=digest_file(path))
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.is_symlink() and path != directory / MANIFEST_NAME
    }
    return Manifest(files=files)
