"""What the process that runs a pipeline is told."""

from __future__ import annotations

from typing import Literal

from windlass.schema import Document

STEPS = ("prepare", "train", "compress", "evaluate", "select", "register")
"""In their order; known here without importing KFP."""


class Request(Document):
    """One run on this machine, as a JSON file."""

    format_version: Literal[1] = 1
    root: str
    run_id: str
    last_step: Literal["prepare", "train", "compress", "evaluate", "select", "register"]
    directory: str
    """Local, of this run: KFP's outputs go here."""
