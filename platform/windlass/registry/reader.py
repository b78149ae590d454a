"""The read side: what is registered, which version an alias means, and a verified copy of its files."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from windlass.registry import safety
from windlass.registry.errors import (
    AliasNotFoundError,
    FamilyGoneError,
    ModelNotFoundError,
    NoFamilyError,
    UnsafeVersionError,
    VersionNotFoundError,
)
from windlass.registry.family import FAMILY_NAME, FAMILY_TAG, Family, KeptCandidate
from windlass.registry.fetching import Fetch, fetch_documents, fetch_version, fetcher, is_whole
from windlass.registry.names import check_name, is_name, parse_spec
from windlass.registry.registering import MANIFEST_TAG, RUN_KEY_TAG
from windlass.registry.safety import GoneError, UnsafeError
from windlass.registry.tracking import connect, is_missing, local_artifacts, refusals, repeated
from windlass.schema import Section

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


class TrackedRun(Section):
    """What MLflow has of a run."""

    run_id: str
    parameters: dict[str, str]
    tags: dict[str, str]


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

    def model_tags(self, name: str) -> dict[str, str]:
        """Tags of the registered model itself.

        Raises:
            ModelNotFoundError
        """
        return dict(self._model(name).tags)

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
        with _refused(name, version):
            digest = _manifest_digest(self._version(name, version))
            if not is_whole(directory, digest):
                fetch_version(self._fetch_from(self._source(name, version)), digest, directory)
        return directory

    def read_documents(self, name: str, version: int, files: Collection[str]) -> dict[str, bytes]:
        """Some of a version's small files, verified, without its model.

        Raises:
            ModelNotFoundError, VersionNotFoundError
            UnsafeVersionError: as of `download`.
        """
        with _refused(name, version):
            digest = _manifest_digest(self._version(name, version))
            return fetch_documents(self._fetch_from(self._source(name, version)), digest, files)

    def version(self, name: str, version: int) -> VersionInfo:
        """One version as it is listed.

        Raises:
            ModelNotFoundError, VersionNotFoundError
        """
        found = self._version(name, version)
        return _version_info(found, self.aliases(name))

    def run(self, run_id: str) -> TrackedRun | None:
        """What MLflow has of a run; None if it is gone."""
        from mlflow import MlflowException

        self._connected()
        with refusals(self.tracking_uri):
            try:
                data = repeated(self.tracking_uri, lambda: self._client.get_run(run_id)).data
            except MlflowException as error:
                if is_missing(error):
                    return None
                raise
        return TrackedRun(run_id=run_id, parameters=dict(data.params), tags=dict(data.tags))

    def family(self, name: str, version: int) -> Family:
        """The candidates of the run that a version comes from, their files unseen.

        Raises:
            ModelNotFoundError, VersionNotFoundError
            UnsafeVersionError: the version is not one of ours, or the list is not the one that was registered.
            NoFamilyError: it was registered without one.
            FamilyGoneError: the run's artifacts were removed.
        """
        found = self._version(name, version)
        with _refused(name, version), tempfile.TemporaryDirectory() as temporary:
            _manifest_digest(found)
            if FAMILY_TAG not in found.tags:
                raise NoFamilyError(name, version)
            try:
                fetch = self._fetch_from(_folder(self._source(name, version)))
                fetch(FAMILY_NAME, Path(temporary), safety.MAX_DOCUMENT_BYTES)
            except GoneError as error:
                raise FamilyGoneError(name, version, found.run_id, FAMILY_NAME) from error
            data = (Path(temporary) / FAMILY_NAME).read_bytes()
            if hashlib.sha256(data).hexdigest() != found.tags[FAMILY_TAG]:
                raise UnsafeError(f"the {FAMILY_NAME} of its run is not the one that was registered")
            return Family.read(Path(temporary) / FAMILY_NAME)

    def candidate_source(self, name: str, version: int, candidate: KeptCandidate) -> str:
        """Where the files of a candidate of the version's family lie."""
        with _refused(name, version):
            safety.check_file_name(candidate.folder)
            return f"{_folder(self._source(name, version))}/{candidate.folder}"

    def download_candidate(self, name: str, version: int, candidate: KeptCandidate, directory: Path) -> Path:
        """A verified copy of a candidate of the version's family, in an absent directory.

        Raises:
            UnsafeVersionError: a file is not what was registered.
            FamilyGoneError: the run's artifacts were removed.
        """
        with _refused(name, version):
            fetch = self._fetch_from(self.candidate_source(name, version, candidate))
            try:
                fetch_version(fetch, candidate.manifest, directory)
            except GoneError as error:
                run_id = self._version(name, version).run_id
                raise FamilyGoneError(name, version, run_id, candidate.folder) from error
        return directory

    def _source(self, name: str, version: int) -> str:
        source: str = self._ask(lambda: self._connected().get_model_version_download_uri(name, str(version)))
        safety.check_source(source, self._artifact_roots())
        return source.rstrip("/")

    def _fetch_from(self, source: str) -> Fetch:
        return fetcher(source, self.tracking_uri, self._ask)

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


@contextmanager
def _refused(name: str, version: int) -> Iterator[None]:
    """Say of which version it is that something is refused."""
    try:
        yield
    except UnsafeError as error:
        raise UnsafeVersionError(name, version, str(error)) from error


def _manifest_digest(found: Any) -> str:
    """Of the manifest that was registered with the version."""
    if RUN_KEY_TAG not in found.tags or MANIFEST_TAG not in found.tags:
        raise UnsafeError("it was not registered by windlass")
    return str(found.tags[MANIFEST_TAG])


def _folder(source: str) -> str:
    return source.rpartition("/")[0]
