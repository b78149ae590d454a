"""What compression writes beside the variants themselves."""

from __future__ import annotations

from typing import Literal

from windlass.schema import Document, Section
from windlass.storage import Reference

CANDIDATES_NAME = "candidates.json"


class Candidate(Section):
    name: str
    variant: Reference


class Candidates(Document):
    """The variants that compression made; `uncompressed` names the one that the others are compared with."""

    format_version: Literal[1] = 1
    uncompressed: str
    candidates: tuple[Candidate, ...]
