"""What one look at something gave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from windlass.cluster.errors import ApiError

FORBIDDEN = 403


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    status: Literal["ok", "warning", "problem"]
    found: str
    action: str = ""
    """The command or the setting that mends it; empty where nothing is to be done."""


def unless_forbidden(name: str, right: str, look: Callable[[], Finding]) -> Finding:
    """What `look` finds; where this identity may not look, a warning that names the right which that needs."""
    try:
        return look()
    except ApiError as error:
        if error.status != FORBIDDEN:
            raise
        return Finding(
            name, "warning", f"could not be checked: you may not {right}", "let somebody who may run the same command"
        )
