"""What compression writes beside the variants themselves."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from windlass.schema import Document, Section
from windlass.storage import Reference

CANDIDATES_NAME = "candidates.json"


class Candidate(Section):
    """One variant, and how it came to be."""

    name: str
    variant: Reference
    model: Reference
    """The torch network that it was exported from."""
    methods: tuple[str, ...] = ()
    drop: float | None = None
    """What it loses of the main metric on validation, as compression saw it; None for the uncompressed model."""
    recovers: str | None = None
    """The candidate whose lost quality it was made to win back."""
    notes: dict[str, float] = Field(default_factory=dict)
    """What a method found out while it made the variant; see `windlass.variants.variant.Origin.notes`."""


class LeftOut(Section):
    """A candidate that `auto` could have made and did not."""

    name: str
    reason: str


class Candidates(Document):
    """The variants that compression made; `uncompressed` names the one that the others are compared with."""

    format_version: Literal[1] = 1
    uncompressed: str
    candidates: tuple[Candidate, ...]
    left_out: tuple[LeftOut, ...] = ()
    ended: str = ""
    """Why no more were made, for people."""
