"""Model files are recognised by their content before anything parses them."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

from windlass.errors import CorruptedError

_MAX_SAFETENSORS_HEADER_BYTES = 100_000_000
_FOREIGN = (
    (b"PK\x03\x04", "a zip file, such as torch.save writes; it may hold a pickle"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\x7fELF", "a program"),
    (b"#!", "a script"),
)
_PICKLE_PROTOCOLS = range(2, 6)


class UnsafeModelError(CorruptedError):
    """A model's file is not of its format, or asks for what is never allowed. It was not loaded."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path} is refused: {problem}; export the model again as one self-contained file")
        self.path, self.problem = path, problem


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """A regular file's bytes, read through one descriptor that does not follow a link.

    Raises:
        UnsafeModelError: a link, not a regular file, or larger than `max_bytes`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise UnsafeModelError(path, "it is a link" if path.is_symlink() else str(error.strerror)) from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnsafeModelError(path, "it is not a regular file")
        if status.st_size > max_bytes:
            raise UnsafeModelError(path, f"it is larger than {max_bytes:,} bytes")
        return file.read(status.st_size)


def refuse_foreign_format(path: Path, head: bytes, expected: str) -> None:
    """Name what a file is instead of what its name says.

    Raises:
        UnsafeModelError: the first bytes are those of a pickle, an archive, a program or another model format.
    """
    for magic, description in _FOREIGN:
        if head.startswith(magic):
            raise UnsafeModelError(path, f"it is not {expected} but {description}")
    if len(head) > 1 and head[0] == 0x80 and head[1] in _PICKLE_PROTOCOLS:
        raise UnsafeModelError(path, f"it is not {expected} but a pickle, which can run commands when it is loaded")
    if head[4:8] == b"ORTM":
        raise UnsafeModelError(path, f"it is not {expected} but ONNX Runtime's own format")


def check_safetensors(path: Path) -> None:
    """Check that a file is safetensors: a bounded JSON header whose tensors lie inside the file.

    Raises:
        UnsafeModelError: it is something else, such as a pickle with another name, or it is cut off.
    """
    if path.is_symlink():
        raise UnsafeModelError(path, "it is a link")
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        header_bytes = int.from_bytes(prefix, "little")
        fits = len(prefix) == 8 and header_bytes <= min(size_bytes - 8, _MAX_SAFETENSORS_HEADER_BYTES)
        header = file.read(header_bytes) if fits else b""
    # A header of 640 bytes has a length that begins as a pickle does.
    if not header.startswith(b"{"):
        refuse_foreign_format(path, prefix, "safetensors")
    if not fits:
        raise UnsafeModelError(path, "it is not safetensors: its header does not fit into the file")
    try:
        tensors = json.loads(header)
        ends = [entry["data_offsets"][1] for name, entry in tensors.items() if name != "__metadata__"]
        fits = max(ends, default=0) == size_bytes - 8 - header_bytes
    except (ValueError, RecursionError, AttributeError, KeyError, IndexError, TypeError) as error:
        raise UnsafeModelError(path, "it is not safetensors: its header is not the JSON that it has to be") from error
    if not fits:
        raise UnsafeModelError(path, "it is cut off, or longer than its header says")
