"""A version's files, each of a bounded size, from where the registry has them to a directory, whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from windlass.registry import safety
from windlass.registry.bundle import MLMODEL_NAME
from windlass.registry.safety import GoneError, UnsafeError
from windlass.storage import MANIFEST_NAME

Fetch = Callable[[str, Path, int], None]
"""Gets a file by its name into a directory, if it has no more than so many bytes."""


def fetcher(source: str, tracking_uri: str, ask: Callable[[Callable[[], Any]], Any]) -> Fetch:
    """How named files come from below `source`, which was checked.

    Args:
        ask: makes a call to MLflow, again if that may help.
    """
    root = urlsplit(source)
    if root.scheme in ("", "file"):
        folder = Path(url2pathname(root.path))
        return lambda name, target, max_bytes: _copy(folder, name, target, max_bytes)
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository: Any = get_artifact_repository(source, tracking_uri=tracking_uri, registry_uri=tracking_uri)

    def fetch(name: str, target: Path, max_bytes: int) -> None:
        sizes = ask(lambda: {file.path: file.file_size for file in repository.list_artifacts(_parent(name))})
        if name not in sizes:
            raise GoneError(f"{name} is missing")
        if (sizes[name] or 0) > max_bytes:
            raise UnsafeError(f"{name} is larger than {max_bytes:,} bytes")
        ask(lambda: repository.download_artifacts(name, dst_path=str(target)))

    return fetch


def fetch_version(fetch: Fetch, digest: str, directory: Path) -> None:
    """Put the files of the manifest with this digest into `directory`, which appears when all of them are right.

    Raises:
        UnsafeError: a file is missing, is too large or not what the manifest says; or the version may not be loaded.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".download-") as temporary:
        target = Path(temporary) / "version"
        target.mkdir()
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


def fetch_documents(fetch: Fetch, digest: str, files: Collection[str]) -> dict[str, bytes]:
    """The content of those of the files that the manifest with this digest has.

    Raises:
        UnsafeError: as of `fetch_version`.
    """
    with tempfile.TemporaryDirectory() as temporary:
        target = Path(temporary)
        fetch(MANIFEST_NAME, target, safety.MAX_DOCUMENT_BYTES)
        manifest = safety.read_manifest(target / MANIFEST_NAME, digest)
        safety.check_listing(manifest)
        wanted = {file: entry for file, entry in manifest.files.items() if file in files}
        for file, entry in wanted.items():
            fetch(file, target, entry.size_bytes)
        safety.check_files(target, manifest.model_copy(update={"files": wanted}))
        return {file: (target / file).read_bytes() for file in wanted}


def is_whole(directory: Path, digest: str) -> bool:
    """Whether a directory holds all files of the manifest with this digest."""
    if not (directory / MANIFEST_NAME).is_file():
        return False
    try:
        safety.check_files(directory, safety.read_manifest(directory / MANIFEST_NAME, digest))
    except UnsafeError:
        return False
    return True


def _parent(name: str) -> str | None:
    return name.rpartition("/")[0] or None


def _copy(root: Path, name: str, target: Path, max_bytes: int) -> None:
    source = root / name
    if not source.is_file():
        raise GoneError(f"{name} is missing")
    # a link below the artifact root would lead out of it
    if source.resolve() != root.resolve() / name:
        raise UnsafeError(f"{name} is a link")
    if source.stat().st_size > max_bytes:
        raise UnsafeError(f"{name} is larger than {max_bytes:,} bytes")
    (target / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target / name, follow_symlinks=False)


def _replace(source: Path, target: Path) -> None:
    """Move a directory to its place; what was there, broken or of another version, goes away first."""
    if target.exists():
        aside = target.with_name(f".{target.name}-{uuid.uuid4().hex[:8]}")
        target.rename(aside)
        source.rename(target)
        shutil.rmtree(aside)
    else:
        source.rename(target)
