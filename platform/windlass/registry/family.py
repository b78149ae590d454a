"""The family of a version: every candidate of its run, as it lies in MLflow and can be promoted later.

`versions/<attempt>/family.json` in the run lists the candidates; beside it each has a directory that is a complete
version. The version's tag `windlass.family` is the digest of that list, and the list has the digest of each candidate's
manifest: nothing of a loser is believed that does not follow from the registry.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from windlass.registry.bundle import write_version
from windlass.registry.tracking import repeated
from windlass.schema import Document, Section
from windlass.storage import describe_directory

FAMILY_NAME = "family.json"
FAMILY_TAG = "windlass.family"
CANDIDATE_TAG = "windlass.candidate"
VARIANT_TAG = "windlass.variant"
"""Digest of the published variant: versions with the same one are the same model, whatever run registered them."""


@dataclass(frozen=True)
class FamilyMember:
    """A candidate of a run that is being registered."""

    name: str
    variant: Path
    """Directory of the published variant."""
    measurement: Path
    """Its measurement.json."""
    figures: Mapping[str, float]
    metric: str = ""
    """Name of the main metric among the figures."""
    fits: bool | None = None
    """Whether it is inside the budget."""
    reason: str = ""
    """Why it was chosen or not, in a sentence."""


class KeptCandidate(Section):
    """A candidate as it lies in MLflow."""

    name: str
    folder: str
    """Beside family.json."""
    manifest: str
    """Digest of the folder's manifest."""
    variant: str
    """Digest of the published variant that it was made from."""
    metric: str
    figures: dict[str, float]
    fits: bool | None
    reason: str


class Family(Document):
    """`family.json`: the candidates in the order in which they were measured."""

    format_version: Literal[1] = 1
    winner: str
    candidates: tuple[KeptCandidate, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.as_text().encode()).hexdigest()

    def as_text(self) -> str:
        return self.model_dump_json(indent=2) + "\n"

    def candidate(self, name: str) -> KeptCandidate | None:
        return next((candidate for candidate in self.candidates if candidate.name == name), None)


def upload_family(
    client: Any,
    tracking_uri: str,
    run_id: str,
    members: Sequence[FamilyMember],
    *,
    winner: str,
    dataset: Path | None,
    threads: int,
) -> tuple[str, Family]:
    """Upload each candidate as a complete version, then the list, below a name that no other attempt uses.

    Returns:
        The address of the folder that holds them, and the list.
    """
    base = f"versions/{uuid.uuid4().hex[:12]}"
    kept = []
    for number, member in enumerate(members, start=1):
        folder = f"{number}-{re.sub(r'[^A-Za-z0-9_-]', '_', member.name)[:80]}"
        with tempfile.TemporaryDirectory() as temporary:
            directory = Path(temporary) / "version"
            manifest = write_version(
                member.variant, member.measurement, directory, run_id=run_id, threads=threads, dataset=dataset
            )
            repeated(tracking_uri, partial(client.log_artifacts, run_id, str(directory), f"{base}/{folder}"))
        kept.append(
            KeptCandidate(
                name=member.name,
                folder=folder,
                manifest=manifest.digest,
                variant=describe_directory(member.variant).digest,
                metric=member.metric,
                figures=dict(member.figures),
                fits=member.fits,
                reason=member.reason,
            )
        )
    family = Family(winner=winner, candidates=tuple(kept))
    repeated(tracking_uri, lambda: client.log_text(run_id, family.as_text(), f"{base}/{FAMILY_NAME}"))
    root = repeated(tracking_uri, lambda: client.get_run(run_id)).info.artifact_uri
    return f"{root}/{base}", family


def version_tags(family: Family, candidate: KeptCandidate) -> dict[str, str]:
    """What a version's tags say of the candidate that it is."""
    return {FAMILY_TAG: family.digest, CANDIDATE_TAG: candidate.name, VARIANT_TAG: candidate.variant}
