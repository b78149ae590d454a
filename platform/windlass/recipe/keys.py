"""`step_key`: what a step's result depends on, and nothing else."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import windlass
from windlass.schema import digest_of

_PACKAGES_READ: Mapping[str, tuple[str, ...]] = {
    "prepare": ("data", "variants"),
    "train": ("training", "tasks", "models", "data"),
    "compress": ("compression", "training", "tasks", "models", "data", "variants"),
    "evaluate": ("evaluation", "tasks", "data", "variants"),
    "analyse": ("evaluation", "tasks", "models", "data", "variants"),
    "select": ("evaluation", "tasks", "data", "variants"),
    "register": ("registry", "variants"),
}
"""The packages of the library whose source can change what a step publishes."""
_SOURCE_SUFFIXES = (".py", ".j2")


def step_key(step: str, **depends_on: Any) -> str:
    """The name under which a step publishes: 32 hex digits over the step, its inputs and our source.

    Args:
        step: one of prepare, train, compress, evaluate, analyse, select, register.
        depends_on: JSON values: the recipe values that the step reads and the digests of its inputs. What only changes
            how fast the result comes has no place here.
    """
    return digest_of({"step": step, "source": _source_digest(step), "depends_on": depends_on})[:32]


@functools.cache
def _source_digest(step: str) -> str:
    package = Path(windlass.__file__).parent
    digest = hashlib.sha256()
    for name in _PACKAGES_READ[step]:
        for path in sorted((package / name).rglob("*")):
            if path.suffix in _SOURCE_SUFFIXES:
                digest.update(path.relative_to(package).as_posix().encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
