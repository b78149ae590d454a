"""Published files from an object store to a local directory, each verified against the manifest."""

from __future__ import annotations

import hashlib
import os
import threading
from functools import partial
from mmap import ACCESS_READ, mmap
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
            data = self.requests.get_whole(self.key, self.entry.size_bytes, stopped)
            if data is None:
                raise self._absent()
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
        digest = _GrowingDigest(self.path, part_bytes)

        def get_part(start: int, stopped: threading.Event) -> int:
            size_bytes = min(part_bytes, self.entry.size_bytes - start)
            if start not in arrived:
                self._get_range(start, size_bytes, stopped)
                with journal.open("a") as file:
                    file.write(f"{start}\n")
            digest.arrived(start)
            return size_bytes

        def finish(stopped: threading.Event) -> int:
            found = digest.value()
            for _ in range(_ATTEMPTS - 1):
                if found == self.entry.sha256:
                    break
                for start in starts:
                    self._get_range(start, min(part_bytes, self.entry.size_bytes - start), stopped)
                found = digest_file(self.path)
            journal.unlink()
            if found != self.entry.sha256:
                raise self._differs()
            return 0

        return Job([partial(get_part, start) for start in starts], finish)

    def _get_range(self, start: int, size_bytes: int, stopped: threading.Event) -> None:
        descriptor = os.open(self.path, os.O_WRONLY)
        try:
            if not self.requests.get_range_into(self.key, start, size_bytes, partial(_pwrite, descriptor), stopped):
                raise self._absent()
        finally:
            os.close(descriptor)

    def _absent(self) -> ObjectCorruptedError:
        return ObjectCorruptedError(self.name, self.uri, "it is missing or too short")

    def _differs(self) -> ObjectCorruptedError:
        return ObjectCorruptedError(self.name, self.uri, f"its SHA-256 differs in {_ATTEMPTS} downloads")


class _GrowingDigest:
    """The SHA-256 of a file whose parts arrive in any order, computed while others are on their way."""

    def __init__(self, path: Path, part_bytes: int) -> None:
        self._path, self._part_bytes = path, part_bytes
        self._digest, self._position = hashlib.sha256(), 0
        self._waiting: set[int] = set()
        self._lock = threading.Lock()

    def arrived(self, start: int) -> None:
        self._waiting.add(start)
        # Another thread that is at it takes this part along, or the next arrival does.
        if self._lock.acquire(blocking=False):
            try:
                self._advance()
            finally:
                self._lock.release()

    def value(self) -> str:
        """The digest, when all parts have arrived."""
        with self._lock:
            self._advance()
        return self._digest.hexdigest()

    def _advance(self) -> None:
        with (
            self._path.open("rb") as file,
            mmap(file.fileno(), 0, access=ACCESS_READ) as mapped,
            memoryview(mapped) as content,
        ):
            while self._position in self._waiting:
                self._digest.update(content[self._position : self._position + self._part_bytes])
                self._position += self._part_bytes


def _pwrite(descriptor: int, position: int, data: bytes) -> None:
    while data:  # a full disk may take a part of it
        written = os.pwrite(descriptor, data, position)
        position, data = position + written, data[written:]
