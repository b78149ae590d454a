"""Published directories and documents on an object store.

The files of an attempt lie below a prefix of its own, `<name>/data-<random>/`; the manifest names that prefix and is
written last, on condition that there is none. So a reader sees all files of one writer or nothing.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from windlass.errors import CorruptedError
from windlass.storage._download import download, journals_of
from windlass.storage._errors import (
    InputChangedError,
    InvalidRootError,
    NotPublishedHereError,
    ObjectCorruptedError,
    StorageRequestError,
    WrongResultError,
)
from windlass.storage._local import clean_temporary, full_disk_explained, locked, temporary_directory
from windlass.storage._manifest import (
    MANIFEST_NAME,
    Manifest,
    Reference,
    StoredFile,
    check_name,
    describe_directory,
    describe_file,
    verify_directory,
)
from windlass.storage._s3_requests import S3Requests
from windlass.storage._s3_settings import S3Settings
from windlass.storage._upload import upload

USED_NAME = "used"
"""Beside a manifest: written anew whenever a step takes the result, for its time."""
_URI = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>.*))?")


class S3Store:
    """Results below `s3://bucket/prefix`, made and kept as copies in a local directory."""

    def __init__(self, uri: str, local: Path, settings: S3Settings | None = None) -> None:
        match = _URI.fullmatch(uri.rstrip("/"))
        if match is None:
            raise InvalidRootError(uri)
        self.uri = uri.rstrip("/")
        self.prefix = f"{match['prefix']}/" if match["prefix"] else ""
        self.local = local
        self._requests = S3Requests(match["bucket"], settings or S3Settings.from_environment())

    def find(self, name: str) -> Reference | None:
        manifest = self._manifest(name)
        return None if manifest is None else Reference(uri=f"{self.uri}/{name}", digest=manifest.digest)

    def touch(self, name: str) -> None:
        self._requests.put(f"{self.prefix}{check_name(name)}/{USED_NAME}", b"", hashlib.sha256(b"").hexdigest())

    def list_files(self, prefix: str) -> list[StoredFile]:
        return [
            StoredFile(name=key.removeprefix(self.prefix), size_bytes=size_bytes, modified_s=modified_s)
            for key, size_bytes, modified_s in self._requests.list_entries(self.prefix + prefix)
        ]

    def make(self, name: str, make: Callable[[Path], None]) -> tuple[Reference, bool]:
        """Publish what `make` writes, or what an earlier process made and could not upload."""
        outgoing = self.local / "outgoing" / check_name(name)
        manifest = self._kept(outgoing)
        made = manifest is None
        if manifest is None:
            manifest = self._make_locally(outgoing, make)
        reference, won = self._publish(outgoing, manifest, name)
        if won:
            self._to_cache(outgoing, manifest)
        shutil.rmtree(outgoing, ignore_errors=True)
        return reference, made and won

    def publish_files(self, source: Path, manifest: Manifest, name: str) -> Reference:
        """Upload files that belong to the user, from where they lie."""
        note = self.local / "outgoing" / check_name(name)
        note.mkdir(parents=True, exist_ok=True)
        if not (note / MANIFEST_NAME).is_file():
            _attempt(manifest).write(note / MANIFEST_NAME)

        def check() -> None:
            for file_name, entry in manifest.files.items():
                if describe_file(source / file_name) != entry:
                    shutil.rmtree(note)  # what was uploaded is not what it says: the next attempt begins anew
                    raise InputChangedError(source / file_name)

        reference, _ = self._publish(source, Manifest.read(note / MANIFEST_NAME), name, check)
        shutil.rmtree(note)
        return reference

    def fetch(self, reference: Reference) -> Path:
        directory = self.local / "cache" / reference.digest
        lock = self.local / "locks" / f"cache-{reference.digest}.lock"
        with locked(lock, f"downloading {reference.uri}"), full_disk_explained(directory):
            if (directory / MANIFEST_NAME).is_file():
                try:
                    verify_directory(directory, Manifest.read(directory / MANIFEST_NAME))
                except CorruptedError:
                    shutil.rmtree(directory)  # only a copy: the store has the original
                else:
                    return directory
            self._download(reference, directory)
        return directory

    def locate(self, reference: Reference) -> dict[str, str]:
        manifest = self._published(reference)
        return {name: f"{reference.uri}/{manifest.data}/{name}" for name in manifest.files}

    def write_document(self, name: str, data: bytes, *, if_absent: bool) -> bool:
        if if_absent:
            return self._requests.put_if_absent(self.prefix + name, data)
        self._requests.put(self.prefix + name, data, hashlib.sha256(data).hexdigest())
        return True

    def read_document(self, name: str) -> bytes | None:
        return self._requests.get(self.prefix + name)

    def list_documents(self, prefix: str) -> list[str]:
        return sorted(key.removeprefix(self.prefix) for key in self._requests.list_keys(self.prefix + prefix))

    def delete_document(self, name: str) -> None:
        self._requests.delete(self.prefix + name)

    def remove(self, reference: Reference, head: str = MANIFEST_NAME) -> None:
        if not reference.uri.startswith(f"{self.uri}/"):
            raise NotPublishedHereError(reference.uri, self.uri)
        name = check_name(reference.uri.removeprefix(f"{self.uri}/"))
        self._requests.delete(f"{self.prefix}{name}/{head}")
        self._clear(f"{self.prefix}{name}/", keep="")
        shutil.rmtree(self.local / "cache" / reference.digest, ignore_errors=True)

    def _manifest(self, name: str) -> Manifest | None:
        data = self._requests.get(f"{self.prefix}{check_name(name)}/{MANIFEST_NAME}")
        return None if data is None else Manifest.from_bytes(data, f"{self.uri}/{name}/{MANIFEST_NAME}")

    def _kept(self, outgoing: Path) -> Manifest | None:
        """What an earlier process made and could not upload, if it is still whole."""
        if not (outgoing / MANIFEST_NAME).is_file():
            return None
        try:
            manifest = Manifest.read(outgoing / MANIFEST_NAME)
            verify_directory(outgoing, manifest)
        except CorruptedError:
            shutil.rmtree(outgoing)
            return None
        return manifest

    def _make_locally(self, outgoing: Path, make: Callable[[Path], None]) -> Manifest:
        clean_temporary(self.local)
        with full_disk_explained(outgoing), temporary_directory(self.local) as directory:
            make(directory)
            manifest = _attempt(describe_directory(directory))
            manifest.write(directory / MANIFEST_NAME)
            outgoing.parent.mkdir(parents=True, exist_ok=True)
            directory.rename(outgoing)
        return manifest

    def _publish(
        self, source: Path, manifest: Manifest, name: str, check: Callable[[], None] = lambda: None
    ) -> tuple[Reference, bool]:
        """Upload, then write the manifest unless another writer was first.

        Returns:
            What is published there now, and whether it is this attempt.
        """
        base = f"{self.prefix}{name}/"
        try:
            upload(self._requests, source, manifest, f"{base}{manifest.data}/")
            check()
            won = self._requests.put_if_absent(base + MANIFEST_NAME, manifest.model_dump_json(indent=2).encode())
        except StorageRequestError:
            # A winner clears away the attempts of others, also while they are still uploading.
            if self._manifest(name) is None:
                raise
            won = False
        published = manifest if won else self._manifest(name)
        if published is None:
            raise ObjectCorruptedError(MANIFEST_NAME, f"{self.uri}/{name}", "it was removed while it was written")
        self._clear(base, keep=published.data)
        return Reference(uri=f"{self.uri}/{name}", digest=published.digest), published.data == manifest.data

    def _clear(self, base: str, *, keep: str) -> None:
        """Delete what lies below `base`, unfinished uploads too, except the manifest and the data that it names."""
        kept = (f"{base}{MANIFEST_NAME}", f"{base}{keep}/") if keep else ()
        for key, upload_id in self._requests.unfinished(base):
            if not key.startswith(kept):
                self._requests.abort(key, upload_id)
        self._requests.delete_all([key for key in self._requests.list_keys(base) if not key.startswith(kept)])

    def _to_cache(self, outgoing: Path, manifest: Manifest) -> None:
        """Keep what was just uploaded, so that the next step need not download it."""
        directory = self.local / "cache" / manifest.digest
        if directory.exists():
            return
        manifest.model_copy(update={"data": ""}).write(outgoing / MANIFEST_NAME)
        directory.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # another process was first
            outgoing.rename(directory)

    def _published(self, reference: Reference) -> Manifest:
        data = self._requests.get(f"{self._base(reference)}{MANIFEST_NAME}")
        if data is None:
            raise ObjectCorruptedError(MANIFEST_NAME, reference.uri, "it is missing")
        manifest = Manifest.from_bytes(data, f"{reference.uri}/{MANIFEST_NAME}")
        if manifest.digest != reference.digest:
            raise WrongResultError(reference.uri)
        return manifest

    def _base(self, reference: Reference) -> str:
        name = reference.uri.removeprefix(self.uri).lstrip("/")
        return f"{self.prefix}{name}/" if name else self.prefix

    def _download(self, reference: Reference, directory: Path) -> None:
        manifest = self._published(reference)
        unfinished = self.local / "cache" / f"{reference.digest}.unfinished"
        unfinished.mkdir(parents=True, exist_ok=True)
        download(self._requests, reference.uri, manifest, f"{self._base(reference)}{manifest.data}/", unfinished)
        manifest.model_copy(update={"data": ""}).write(unfinished / MANIFEST_NAME)
        unfinished.rename(directory)
        shutil.rmtree(journals_of(unfinished), ignore_errors=True)


def _attempt(manifest: Manifest) -> Manifest:
    return manifest.model_copy(update={"data": f"data-{uuid.uuid4().hex}"})
