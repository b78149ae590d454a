"""The read side: what is registered, which version an alias means, and a verified copy of its files."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

from windlass.registry import safety
from windlass.registry.bundle import MLMODEL_NAME
from windlass.registry.errors import (
    AliasNotFoundError,
    ModelNotFoundError,
    UnsafeVersionError,
    VersionNotFoundError,
)
from windlass.registry.names import check_name, is_name, parse_spec
from windlass.registry.registering import MANIFEST_TAG, RUN_KEY_TAG
from windlass.registry.safety import UnsafeError
from windlass.registry.tracking import connect, is_missing, local_artifacts, refusals, repeated
from windlass.schema import Section
from windlass.storage import MANIFEST_NAME

ROOTS_VARIABLE = "WINDLASS_ARTIFACT_ROOTS"
DEFAULT_ALIAS = "champion"
_PAGE = 200

Result = TypeVar("Result")


class ModelVersion(Section):
    """One version by name and number."""

    name: str
    version: int


class ModelInfo(Section):
    """A registered model and where its aliases point."""

    name: str
    aliases: dict[str, int]


class VersionInfo(Section):
    """A version as the registry lists it, its files unseen."""

    name: str
    version: int
    created_s: float
    """Seconds since 1970."""
    run_id: str
    aliases: tuple[str, ...]
    tags: dict[str, str]

    @property
    def ours(self) -> bool:
        """Whether `windlass.registry` made it; only such versions can be downloaded."""
        return RUN_KEY_TAG in self.tags


class Registry:
    """Reads a registry.

    Args:
        tracking_uri: a server's URL or `sqlite:///FILE`.
        artifact_roots: where the files of versions may lie; default: WINDLASS_ARTIFACT_ROOTS (several with commas),
            else where the store itself puts them.

    Every method raises RegistryUnreachableError if MLflow does not answer, RegistryRefusedError if it refuses.
    """

    def __init__(self, tracking_uri: str, *, artifact_roots: tuple[str, ...] = ()) -> None:
        self.tracking_uri = tracking_uri
        from_environment = tuple(root for root in os.environ.get(ROOTS_VARIABLE, "").split(",") if root)
        self._roots = artifact_roots or from_environment
        self._client: Any = None

    def models(self) -> list[ModelInfo]:
        """Every model whose name can be one of ours, by name."""
        found: list[Any] = []
        token = None
        while True:
            page = self._ask(
                lambda token=token: self._connected().search_registered_models(max_results=_PAGE, page_token=token)  # type: ignore[misc]
            )
            found.extend(page)
            if not (token := page.token):
                break
        return sorted(
            (ModelInfo(name=model.name, aliases=_aliases(model)) for model in found if is_name(model.name)),
            key=lambda model: model.name,
        )

    def aliases(self, name: str) -> dict[str, int]:
        """Alias to version number.

        Raises:
            ModelNotFoundError
        """
        return _aliases(self._model(name))

    def versions(self, name: str) -> list[VersionInfo]:
        """Every version of the model, oldest first.

        Raises:
            ModelNotFoundError
        """
        aliases = self.aliases(name)
        found: list[Any] = []
        token = None
        while True:
            page = self._ask(
                lambda token=token: self._connected().search_model_versions(  # type: ignore[misc]
                    f"name = '{name}'", max_results=_PAGE, page_token=token
                )
            )
            found.extend(page)
            if not (token := page.token):
                break
        return sorted((_version_info(version, aliases) for version in found), key=lambda info: info.version)

    def resolve(self, spec: str) -> ModelVersion:
        """The version that a person means.

        `digits/2` is version 2, `digits@champion` what the alias points at; `digits` alone is its champion, and
        without such an alias its newest version.

        Raises:
            InvalidModelNameError, InvalidVersionError, ModelNotFoundError, VersionNotFoundError, AliasNotFoundError
        """
        name, which = parse_spec(spec)
        if isinstance(which, int):
            self._version(name, which)
            return ModelVersion(name=name, version=which)
        aliases = self.aliases(name)
        if which is not None:
            if which not in aliases:
                raise AliasNotFoundError(name, which, sorted(aliases))
            return ModelVersion(name=name, version=aliases[which])
        if DEFAULT_ALIAS in aliases:
            return ModelVersion(name=name, version=aliases[DEFAULT_ALIAS])
        versions = self.versions(name)
        if not versions:
            raise VersionNotFoundError(name, 1)
        return ModelVersion(name=name, version=versions[-1].version)

    def download(self, name: str, version: int, directory: Path) -> Path:
        """A verified copy of a version's files in `directory`, which appears whole or not at all.

        What is there already is checked against the registry's digest and kept.

        Raises:
            ModelNotFoundError, VersionNotFoundError
            UnsafeVersionError: it is not one of ours, lies where it should not, or was changed.
        """
        found = self._version(name, version)
        digest = found.tags.get(MANIFEST_TAG)
        try:
            if RUN_KEY_TAG not in found.tags or digest is None:
                raise UnsafeError("it was not registered by windlass")
            if not _is_whole(directory, digest):
                source = self._ask(lambda: self._connected().get_model_version_download_uri(name, str(version)))
                safety.check_source(source, self._artifact_roots())
                self._fetch(source, digest, directory)
        except UnsafeError as error:
            raise UnsafeVersionError(name, version, str(error)) from error
        return directory

    def _fetch(self, source: str, digest: str, directory: Path) -> None:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".download-") as temporary:
            target = Path(temporary) / "version"
            target.mkdir()
            fetch = self._fetcher(source)
            fetch(MANIFEST_NAME, target, safety.MAX_DOCUMENT_BYTES)
            manifest = safety.read_manifest(target / MANIFEST_NAME, digest)
            safety.check_listing(manifest)
            fetch(MLMODEL_NAME, target, manifest.files[MLMODEL_NAME].size_bytes)
            safety.check_mlmodel(target / MLMODEL_NAME)
            for file, entry in manifest.files.items():
                if file != MLMODEL_NAME:
                    fetch(file, target, entry.size_bytes)
            safety.check_files(target, manifest)
            safety.check_variant(target)
            _replace(target, directory)

    def _fetcher(self, source: str) -> Callable[[str, Path, int], None]:
        """How one named file, of a bounded size, comes from the source into a directory."""
        root = urlsplit(source)
        if root.scheme in ("", "file"):
            folder = Path(url2pathname(root.path))
            return lambda name, target, max_bytes: _copy(folder, name, target, max_bytes)
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        uri = self.tracking_uri
        repository: Any = get_artifact_repository(source, tracking_uri=uri, registry_uri=uri)

        def fetch(name: str, target: Path, max_bytes: int) -> None:
            sizes = self._ask(lambda: {file.path: file.file_size for file in repository.list_artifacts(_parent(name))})
            if name not in sizes:
                raise UnsafeError(f"{name} is missing")
            if (sizes[name] or 0) > max_bytes:
                raise UnsafeError(f"{name} is larger than {max_bytes:,} bytes")
            self._ask(lambda: repository.download_artifacts(name, dst_path=str(target)))

        return fetch

    def _artifact_roots(self) -> tuple[str, ...]:
        """Where versions may lie: for a server, the folder in which it put its own first experiment."""
        if self._roots:
            return self._roots
        if (local := local_artifacts(self.tracking_uri)) is not None:
            return (local.as_uri(),)
        first = self._ask(lambda: self._connected().get_experiment("0"))
        return (str(first.artifact_location).rpartition("/")[0] + "/",)

    def _model(self, name: str) -> Any:
        check_name(name)
        return self._ask(lambda: self._connected().get_registered_model(name), ModelNotFoundError(name))

    def _version(self, name: str, version: int) -> Any:
        check_name(name)
        try:
            return self._ask(
                lambda: self._connected().get_model_version(name, str(version)), VersionNotFoundError(name, version)
            )
        except VersionNotFoundError:
            self._model(name)
            raise

    def _connected(self) -> Any:
        if self._client is None:
            self._client = connect(self.tracking_uri)
        return self._client

    def _ask(self, call: Callable[[], Result], missing: Exception | None = None) -> Result:
        self._connected()
        from mlflow import MlflowException

        with refusals(self.tracking_uri):
            try:
                return repeated(self.tracking_uri, call)
            except MlflowException as error:
                if missing is not None and is_missing(error):
                    raise missing from None
                raise


def _aliases(model: Any) -> dict[str, int]:
    return {alias: int(version) for alias, version in sorted(model.aliases.items())}


def _version_info(version: Any, aliases: dict[str, int]) -> VersionInfo:
    number = int(version.version)
    return VersionInfo(
        name=version.name,
        version=number,
        created_s=version.creation_timestamp / 1000,
        run_id=version.run_id or "",
        aliases=tuple(alias for alias, target in aliases.items() if target == number),
        tags=dict(version.tags),
    )


def _parent(name: str) -> str | None:
    return name.rpartition("/")[0] or None


def _copy(root: Path, name: str, target: Path, max_bytes: int) -> None:
    source = root / name
    # a link below the artifact root would lead out of it
    if not source.is_file() or source.resolve() != root.resolve() / name:
        raise UnsafeError(f"{name} is missing or is a link")
    if source.stat().st_size > max_bytes:
        raise UnsafeError(f"{name} is larger than {max_bytes:,} bytes")
    (target / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target / name, follow_symlinks=False)


def _is_whole(directory: Path, digest: str) -> bool:
    if not (directory / MANIFEST_NAME).is_file():
        return False
    try:
        safety.check_files(directory, safety.read_manifest(directory / MANIFEST_NAME, digest))
    except UnsafeError:
        return False
    return True


def _replace(source: Path, target: Path) -> None:
    """Move a directory to its place; what was there, broken or of another version, goes away first."""
    if target.exists():
        aside = target.with_name(f".{target.name}-{uuid.uuid4().hex[:8]}")
        target.rename(aside)
        source.rename(target)
        shutil.rmtree(aside)
    else:
        source.rename(target)
