"""Published files from an object store to a local directory, each verified against the manifest."""

from __future__ import annotations

import hashlib
import os
import threading
from functools import partial
from pathlib import Path

from windlass import progress
from windlass.storage._errors import ObjectCorruptedError
from windlass.storage._jobs import Job, run_jobs
from windlass.storage._manifest import FileEntry, Manifest, digest_file
from windlass.storage._s3_requests import S3Requests

_ATTEMPTS = 4
"""A digest that differs after so many downloads is not a fault of the way here."""


def download(requests: S3Requests, uri: str, manifest: Manifest, prefix: str, directory: Path) -> None:
    """Fetch every file of the manifest from `prefix` + its name, in parallel.

    What an earlier attempt left in the directory is kept: whole files, and parts noted in `<directory>.parts/`.

    Raises:
        ObjectCorruptedError: names the file that is missing or does not have its digest.
    """
    journals = journals_of(directory)
    jobs = []
    for name, entry in manifest.files.items():
        path, journal = directory / name, journals / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not journal.exists() and _is_complete(path, entry):
            continue
        file = _RemoteFile(requests, uri, name, entry, prefix + name, path)
        if entry.size_bytes <= requests.settings.part_size_bytes:
            jobs.append(Job([file.get]))
        else:
            jobs.append(file.in_parts(journal))
    with progress.track(f"downloading {len(jobs)} files", total=manifest.size_bytes, unit="bytes") as bar:
        run_jobs(jobs, requests.settings.num_workers, bar)


def journals_of(directory: Path) -> Path:
    """Where it is noted which parts of large files have arrived."""
    return directory.with_name(f"{directory.name}.parts")


def _is_complete(path: Path, entry: FileEntry) -> bool:
    return path.is_file() and path.stat().st_size == entry.size_bytes and digest_file(path) == entry.sha256


class _RemoteFile:
    """One file of a published directory."""

    def __init__(self, requests: S3Requests, uri: str, name: str, entry: FileEntry, key: str, path: Path) -> None:
        self.requests, self.uri, self.name, self.entry, self.key, self.path = requests, uri, name, entry, key, path

    def get(self, stopped: threading.Event) -> int:
        """The whole file in one request."""
        for _ in range(_ATTEMPTS):
            data = self._range(0, self.entry.size_bytes, stopped)
            if hashlib.sha256(data).hexdigest() == self.entry.sha256:
                self.path.write_bytes(data)
                return len(data)
        raise self._differs()

    def in_parts(self, journal: Path) -> Job:
        """Ranges at once, noted in the journal as they arrive, then the digest of the whole."""
        part_bytes = self.requests.settings.part_size_bytes
        journal.parent.mkdir(parents=True, exist_ok=True)
        if not journal.exists():
            self.path.unlink(missing_ok=True)
            journal.touch()
        arrived = {int(line) for line in journal.read_text().split()}
        with self.path.open("ab") as file:
            file.truncate(self.entry.size_bytes)
        starts = range(0, self.entry.size_bytes, part_bytes)

        def get_part(start: int, stopped: threading.Event) -> int:
            size_bytes = min(part_bytes, self.entry.size_bytes - start)
            if start not in arrived:
                self._write(start, self._range(start, size_bytes, stopped))
                with journal.open("a") as file:
                    file.write(f"{start}\n")
            return size_bytes

        def finish(stopped: threading.Event) -> int:
            for _ in range(_ATTEMPTS - 1):
                if digest_file(self.path) == self.entry.sha256:
                    break
                for start in starts:
                    self._write(start, self._range(start, min(part_bytes, self.entry.size_bytes - start), stopped))
            journal.unlink()
            if digest_file(self.path) != self.entry.sha256:
                raise self._differs()
            return 0

        return Job([partial(get_part, start) for start in starts], finish)

    def _range(self, start: int, size_bytes: int, stopped: threading.Event) -> bytes:
        data = self.requests.get_range(self.key, start, size_bytes, stopped)
        if data is None:
            raise ObjectCorruptedError(self.name, self.uri, "it is missing or too short")
        return data

    def _write(self, start: int, data: bytes) -> None:
        descriptor = os.open(self.path, os.O_WRONLY)
        try:
            os.pwrite(descriptor, data, start)
        finally:
            os.close(descriptor)

    def _differs(self) -> ObjectCorruptedError:
        return ObjectCorruptedError(self.name, self.uri, f"its SHA-256 differs in {_ATTEMPTS} downloads")
