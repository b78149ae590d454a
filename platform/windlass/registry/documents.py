"""What registration writes."""

from __future__ import annotations

from typing import Literal

from windlass.schema import Document

REGISTRATION_NAME = "registration.json"


class Registration(Document):
    """A model version in MLflow."""

    format_version: Literal[1] = 1
    model: str
    version: int
    alias: str | None
    """None if the gate kept the alias where it was."""
    run_id: str
    tracking_uri: str
    run_key: str
