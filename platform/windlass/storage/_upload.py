"""A local directory to an object store; what has arrived already is not sent again."""

from __future__ import annotations

import hashlib
import threading
from functools import partial
from pathlib import Path

from windlass import progress
from windlass.storage._errors import InputChangedError
from windlass.storage._jobs import Job, run_jobs
from windlass.storage._manifest import FileEntry, Manifest
from windlass.storage._s3_requests import S3Requests

_MAX_PARTS = 10_000


def upload(requests: S3Requests, source: Path, manifest: Manifest, prefix: str) -> None:
    """Store every file of the manifest as `prefix` + its name, in parallel.

    Objects that are there with the right digest, and parts of unfinished uploads that equal the file's, are kept.

    Raises:
        InputChangedError: a large file has become shorter than the manifest says.
    """
    present = set(requests.list_keys(prefix))
    unfinished = dict(requests.unfinished(prefix))
    jobs = []
    for name, entry in manifest.files.items():
        key, path = prefix + name, source / name
        if entry.size_bytes <= requests.settings.part_size_bytes:
            jobs.append(Job([partial(_put, requests, path, key, entry, key in present)]))
        elif key not in present or not requests.holds(key, entry.size_bytes, entry.sha256):
            jobs.append(_put_in_parts(requests, path, key, entry, unfinished.get(key)))
    with progress.track(f"uploading {len(jobs)} files", total=manifest.size_bytes, unit="bytes") as bar:
        run_jobs(jobs, requests.settings.num_workers, bar)


def _put(
    requests: S3Requests, path: Path, key: str, entry: FileEntry, may_be_there: bool, stopped: threading.Event
) -> int:
    if not may_be_there or not requests.holds(key, entry.size_bytes, entry.sha256, stopped):
        requests.put(key, path.read_bytes(), entry.sha256, stopped)
    return entry.size_bytes


def _put_in_parts(requests: S3Requests, path: Path, key: str, entry: FileEntry, upload_id: str | None) -> Job:
    part_bytes = max(requests.settings.part_size_bytes, -(-entry.size_bytes // _MAX_PARTS))
    arrived = requests.uploaded_parts(key, upload_id) if upload_id else {}
    upload = upload_id or requests.begin_parts(key, entry.sha256)
    etags: dict[int, str] = {}

    def put_part(number: int, stopped: threading.Event) -> int:
        start = (number - 1) * part_bytes
        data = bytearray(min(part_bytes, entry.size_bytes - start))
        with path.open("rb") as file:
            file.seek(start)
            if file.readinto(data) < len(data):
                raise InputChangedError(path)
        if number in arrived and arrived[number].strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest():
            etags[number] = arrived[number]
        else:
            etags[number] = requests.put_part(key, upload, number, data, stopped)
        return len(data)

    def finish(stopped: threading.Event) -> int:
        requests.complete(key, upload, etags, entry.size_bytes, entry.sha256, stopped)
        return 0

    numbers = range(1, -(-entry.size_bytes // part_bytes) + 1)
    return Job([partial(put_part, number) for number in numbers], finish)
