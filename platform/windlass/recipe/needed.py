"""What of a root is needed: by which runs, and which results, inputs and measurements those refer to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from pydantic import ValidationError

from windlass.errors import InvalidInputError, WindlassError
from windlass.recipe.runs import RunRecord
from windlass.registry import ModelNotFoundError, Registry, RegistryError, redact
from windlass.registry.documents import REGISTRATION_NAME, Registration
from windlass.registry.tracking import sqlite_path
from windlass.storage import StoredFile, Workspace

Folders = Mapping[str, Sequence[StoredFile]]
"""Files by the folder that is removed as a whole: `steps/<step>/<key>`, `inputs/<digest>`, `runs/<run_id>`."""

_REFERENCE = re.compile(rb'(?:steps/[^/"\\\s]+|inputs)/[^/"\\\s]+')
"""A published folder as a document names it, wherever the root lay when the document was written."""
_KEPT_WITH_THEIR_SUBJECT = "steps/measurements/"
_SUBJECT = "steps/variants/"


class AliasesUnknownError(WindlassError):
    """A registry that runs of the root registered in could not be asked."""

    def __init__(self, tracking_uri: str, error: RegistryError) -> None:
        super().__init__(
            f"nothing is removed, for what the aliases of {redact(tracking_uri)} need cannot be told: {error}; "
            "name the same server as this machine reaches it with --tracking-uri"
        )
        self.tracking_uri, self.error = redact(tracking_uri), error


def read_registrations(workspace: Workspace, folders: Folders, records: Iterable[RunRecord]) -> dict[str, Registration]:
    """What each run registered, by its id; runs that did not come to it are left out.

    Raises:
        InvalidInputError: a document is of another version.
    """
    found = {}
    for record in records:
        for step in record.steps:
            if step.step != "register":
                continue
            for file in folders.get(f"steps/register/{step.key}", ()):
                if file.name.endswith(f"/{REGISTRATION_NAME}"):
                    found[record.run_id] = _registration(file.name, workspace.read_document(file.name) or b"")
    return found


def _registration(name: str, data: bytes) -> Registration:
    try:
        return Registration.model_validate_json(data)
    except ValidationError:
        raise InvalidInputError(f"{name} is of another version of windlass; remove that folder") from None


def find_aliased(registrations: Mapping[str, Registration], tracking_uri: str) -> dict[str, str]:
    """The runs that a version with an alias comes from, each with one such alias: {run id: "digits@champion"}.

    Every registry is asked that a run registered in. Where a run knows it under another address than `tracking_uri`,
    that one is asked in its place if it has the run too: pods and people reach a server by different names.

    Raises:
        AliasesUnknownError: one of them does not answer.
    """
    models: dict[str, set[str]] = {}
    for uri, several in _by_registry(registrations.values(), tracking_uri).items():
        models.setdefault(uri, set()).update(registration.model for registration in several)
    aliased: dict[str, str] = {}
    for uri, names in models.items():
        try:
            aliased |= _aliased_runs(Registry(uri), names)
        except RegistryError as error:
            raise AliasesUnknownError(uri, error) from error
    return {
        run_id: aliased[registration.run_id]
        for run_id, registration in registrations.items()
        if registration.run_id in aliased
    }


def _by_registry(registrations: Iterable[Registration], tracking_uri: str) -> dict[str, list[Registration]]:
    written: dict[str, list[Registration]] = {}
    for registration in registrations:
        written.setdefault(registration.tracking_uri, []).append(registration)
    asked: dict[str, list[Registration]] = {}
    for uri, several in written.items():
        same = uri == redact(tracking_uri) or _knows(tracking_uri, several[0].run_id)
        asked.setdefault(tracking_uri if same else uri, []).extend(several)
    return {uri: several for uri, several in asked.items() if _exists(uri)}


def _exists(tracking_uri: str) -> bool:
    """Asking a SQLite file that is gone would make it."""
    database = sqlite_path(tracking_uri)
    return database is None or database.exists()


def _knows(tracking_uri: str, run_id: str) -> bool:
    if not _exists(tracking_uri):
        return False
    try:
        return Registry(tracking_uri).run(run_id) is not None
    except RegistryError as error:
        raise AliasesUnknownError(tracking_uri, error) from error


def _aliased_runs(registry: Registry, models: Iterable[str]) -> dict[str, str]:
    """MLflow runs whose versions have an alias."""
    found: dict[str, str] = {}
    for name in sorted(models):
        try:
            versions = registry.versions(name)
        except ModelNotFoundError:
            continue
        found |= {version.run_id: f"{name}@{version.aliases[0]}" for version in versions if version.aliases}
    return found


def find_needed(workspace: Workspace, folders: Folders, run_ids: Iterable[str]) -> set[str]:
    """The folders that runs refer to, directly or through what those hold, and what was measured of kept variants."""
    needed: set[str] = set()
    waiting = [f"runs/{run_id}" for run_id in run_ids]
    while waiting:
        folder = waiting.pop()
        if folder in folders and folder not in needed:
            needed.add(folder)
            waiting += _references(workspace, folders[folder])
    for folder, files in folders.items():
        if folder.startswith(_KEPT_WITH_THEIR_SUBJECT) and folder not in needed:
            subjects = {name for name in _references(workspace, files) if name.startswith(_SUBJECT)}
            if subjects & needed:
                needed.add(folder)
    return needed


def _references(workspace: Workspace, files: Iterable[StoredFile]) -> set[str]:
    """What the JSON documents of a folder name. Text is searched, not parsed: a form that is new is understood too."""
    found: set[str] = set()
    for file in files:
        if file.name.endswith(".json"):
            data = workspace.read_document(file.name) or b""
            found |= {match.decode(errors="replace") for match in _REFERENCE.findall(data)}
    return found
