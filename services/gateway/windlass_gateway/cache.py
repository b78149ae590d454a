"""The directory that the reconciler and the workers share. Only the reconciler writes versions and routes.

- `versions/<model>/<version>/`: a version, verified, renamed into place when it is whole.
- `routes.json`: which versions are there and where each alias points; replaced in one rename.
- `wanted/<model>/<version>`: a worker asks the reconciler for a version that is not there.
- `used/<model>/<version>`: its time of change says when a version without alias was last asked for.
- `good/<model>/<alias>`: the last version that a worker served under the alias, for the workers after it.
- `tmp/`: what is being downloaded; emptied by the next reconciler.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal

from pydantic import Field

from windlass.errors import CorruptedError
from windlass.schema import Document, Section, digest_of
from windlass.storage import MANIFEST_NAME, Manifest, digest_file
from windlass_gateway.config import GatewayConfig
from windlass_gateway.errors import CacheInUseError, InvalidNameError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
DEFAULT_ALIAS = "champion"


class RoutedVersion(Section):
    """A version that the registry has."""

    version: int
    digest: str | None = None
    """Of its manifest, when it lies in the cache."""
    size_bytes: int | None = None
    fetched_at: float | None = None
    """Seconds since the epoch."""
    problem: str | None = None
    """Why the last attempt to fetch it failed, in words that may leave the machine."""


class RoutedModel(Section):
    """A registered model: `aliases` name only versions that lie in the cache."""

    aliases: dict[str, int]
    versions: tuple[RoutedVersion, ...]

    def find(self, version: int) -> RoutedVersion | None:
        return next((entry for entry in self.versions if entry.version == version), None)

    @property
    def default_alias(self) -> str | None:
        """What the plain name means: `champion`, else the only alias; several others leave it open."""
        if DEFAULT_ALIAS in self.aliases:
            return DEFAULT_ALIAS
        return next(iter(self.aliases)) if len(self.aliases) == 1 else None


class Routes(Document):
    """`routes.json`: what the reconciler published last."""

    format_version: Literal[1] = 1
    registry: str = ""
    """Digest of the tracking URI: equal names and numbers mean other versions in another registry."""
    models: dict[str, RoutedModel] = Field(default_factory=dict)
    problems: tuple[str, ...] = ()
    """What keeps the cache behind the registry, such as a registry that does not answer."""
    absent: tuple[str, ...] | None = None
    """Models to serve that the registry does not have; None until this reconciler has read the registry once."""


def check_name(name: str) -> str:
    """The name itself, when it is safe as a file name.

    Raises:
        InvalidNameError: it is not.
    """
    if _NAME.fullmatch(name) is None:
        raise InvalidNameError(name)
    return name


class Cache:
    """Reads and writes the shared directory; several processes each have their own."""

    def __init__(self, config: GatewayConfig) -> None:
        self.directory = config.cache
        self.routes_path = self.directory / "routes.json"
        self._models = config.models
        self._registry = digest_of(config.tracking_uri)

    def lock(self, owner: Literal["supervisor", "reconciler"]) -> IO[str]:
        """Make this process the only owner, until the returned file is closed or the process ends.

        Raises:
            CacheInUseError: another process is.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        file = (self.directory / f"{owner}.lock").open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise CacheInUseError(self.directory) from None
        return file

    def read_routes(self) -> Routes:
        """What was published last of the models to serve; empty before the first time, or for another registry.

        Raises:
            CorruptedError: the file is not what a reconciler writes.
        """
        empty = Routes(registry=self._registry)
        if not self.routes_path.exists():
            return empty
        routes = Routes.read(self.routes_path)
        if routes.registry != self._registry:
            return empty
        models = {name: model for name, model in routes.models.items() if not self._models or name in self._models}
        return routes.model_copy(update={"models": models})

    def routes_stamp(self) -> tuple[int, ...] | None:
        """Another one whenever other routes are published; None before the first time."""
        try:
            status = self.routes_path.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def write_routes(self, routes: Routes) -> None:
        named = routes.model_copy(update={"registry": self._registry})
        _replace(self.routes_path, named.model_dump_json(indent=2).encode())

    def version_directory(self, name: str, version: int) -> Path:
        return self.directory / "versions" / check_name(name) / str(version)

    def new_directory(self) -> Path:
        """An empty directory for a download, on the same file system as the versions."""
        directory = self.directory / "tmp" / uuid.uuid4().hex
        directory.mkdir(parents=True)
        return directory

    def publish(self, directory: Path, name: str, version: int) -> Manifest:
        """Verify a downloaded version and rename it into place, replacing a damaged one.

        Raises:
            CorruptedError: its files are not what its manifest says.
        """
        manifest = verify(directory)
        target = self.version_directory(name, version)
        self.remove(name, version)
        target.parent.mkdir(parents=True, exist_ok=True)
        directory.rename(target)
        return manifest

    def remove(self, name: str, version: int) -> None:
        """Take a version away at once; engines that have loaded it keep what they hold."""
        target = self.version_directory(name, version)
        if target.exists():
            doomed = self.new_directory() / "removed"
            target.rename(doomed)
            shutil.rmtree(doomed.parent)

    def empty_tmp(self) -> None:
        shutil.rmtree(self.directory / "tmp", ignore_errors=True)

    def stored(self) -> Iterator[tuple[str, int]]:
        """The versions that lie in the cache."""
        yield from self._marks("versions")

    def want(self, name: str, version: int) -> None:
        self._mark("wanted", name, version)

    def wanted(self) -> list[tuple[str, int]]:
        return list(self._marks("wanted"))

    def unwant(self, name: str, version: int) -> None:
        (self.directory / "wanted" / check_name(name) / str(version)).unlink(missing_ok=True)

    def touch(self, name: str, version: int) -> None:
        """Say that the version was asked for now."""
        self._mark("used", name, version)

    def used_at(self, name: str, version: int) -> float:
        """When the version was last asked for, in seconds since the epoch; 0 if never."""
        path = self.directory / "used" / check_name(name) / str(version)
        return path.stat().st_mtime if path.exists() else 0.0

    def remember_good(self, name: str, alias: str, version: int) -> None:
        path = self.directory / "good" / check_name(name) / check_name(alias)
        if self.good(name, alias) != version:
            _replace(path, str(version).encode())

    def good(self, name: str, alias: str) -> int | None:
        """The last version that a worker served under the alias."""
        path = self.directory / "good" / check_name(name) / check_name(alias)
        return int(path.read_text()) if path.exists() else None

    def _mark(self, folder: str, name: str, version: int) -> None:
        path = self.directory / folder / check_name(name) / str(version)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def _marks(self, folder: str) -> Iterator[tuple[str, int]]:
        for path in self.directory.glob(f"{folder}/*/*"):
            if path.name.isdecimal():
                yield path.parent.name, int(path.name)


def verify(directory: Path) -> Manifest:
    """Compare every file that the manifest names with its digest.

    Raises:
        CorruptedError: one is missing or is not what was published.
    """
    manifest = Manifest.read(directory / MANIFEST_NAME)
    for name, entry in manifest.files.items():
        path = directory / name
        if not path.is_file() or path.stat().st_size != entry.size_bytes or digest_file(path) != entry.sha256:
            raise CorruptedError(f"{path} is not what was registered")
    return manifest


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
