"""What is written reaches the disk before its name does."""

from __future__ import annotations

import os
from pathlib import Path


def flush(path: Path) -> None:
    """Wait until a file, or the names in a directory, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_tree(directory: Path) -> None:
    """The same for all that lies below a directory, itself excepted; links are not followed."""
    for path in directory.rglob("*"):
        if not path.is_symlink() and (path.is_file() or path.is_dir()):
            flush(path)
