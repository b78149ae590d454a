"""The registry that a command means."""

from __future__ import annotations

from windlass.errors import InvalidInputError
from windlass.registry import Registry
from windlass.registry.tracking import default_tracking_uri, sqlite_path
from windlass.storage import Workspace


class NothingRegisteredError(InvalidInputError):
    """The SQLite file of a workspace is not there yet."""

    def __init__(self, root: str) -> None:
        super().__init__(f"nothing is registered in {root} yet; start with `windlass run RECIPE`, or name --root")
        self.root = root


def registry_uri(root: str, tracking_uri: str | None) -> str:
    """Where the registry is that a command means: at `tracking_uri`, or that of the workspace.

    Raises:
        NothingRegisteredError: the workspace has none; reading never creates one.
    """
    uri = tracking_uri or default_tracking_uri(Workspace(root).local)
    database = sqlite_path(uri)
    if database is not None and not database.exists():
        raise NothingRegisteredError(root)
    return uri


def open_registry(root: str, tracking_uri: str | None) -> Registry:
    """The registry that a command means, see `registry_uri`."""
    return Registry(registry_uri(root, tracking_uri))
