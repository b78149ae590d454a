"""The requests that we send to an object store, each retried, each answer checked."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any

from windlass.storage._retry import DamagedTransferError, Retrier, error_code, status_of
from windlass.storage._s3_settings import S3Settings, connect

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_PIECE_BYTES = 1 << 20
_ABSENT = {"NoSuchKey", "404", "InvalidRange"}
_SHA256 = "sha256"
"""Name of the object metadata that holds the digest of the whole object."""


class S3Requests:
    """One bucket. Safe to use from several threads; the client is made at the first request."""

    def __init__(self, bucket: str, settings: S3Settings) -> None:
        self.bucket, self.settings = bucket, settings

    @cached_property
    def _client(self) -> S3Client:
        return connect(self.settings)

    @cached_property
    def _retry(self) -> Retrier:
        return Retrier(self.bucket, self._client.meta.endpoint_url, self.settings.retry_for_s)

    def put(self, key: str, data: bytes, sha256: str, stopped: threading.Event | None = None) -> None:
        def request() -> None:
            self._client.put_object(Bucket=self.bucket, Key=key, Body=data, Metadata={_SHA256: sha256})

        self._retry(f"uploading {key}", request, stopped)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Whether this object was written; of several writers exactly one is told so.

        What lies there afterwards decides, not the answer: the answer to an earlier attempt may have been lost after
        the object was written, and servers were seen that check the condition first and write later. So `data` has to
        differ from writer to writer.
        """
        digest = hashlib.sha256(data).hexdigest()

        def request() -> None:
            from botocore.exceptions import ClientError

            try:
                self._client.put_object(
                    Bucket=self.bucket, Key=key, Body=data, IfNoneMatch="*", Metadata={_SHA256: digest}
                )
            except ClientError as error:
                if status_of(error) != 412:
                    raise

        self._retry(f"publishing {key}", request)
        return self.get(key) == data

    def get(self, key: str) -> bytes | None:
        """A small object, checked against the digest that it was stored with; None if there is none."""

        def request() -> bytes | None:
            from botocore.exceptions import ClientError

            try:
                answer = self._client.get_object(Bucket=self.bucket, Key=key)
            except ClientError as error:
                if error_code(error) in _ABSENT:
                    return None
                raise
            data = answer["Body"].read()
            expected = answer["Metadata"].get(_SHA256)
            if expected and hashlib.sha256(data).hexdigest() != expected:
                raise DamagedTransferError(f"{key} arrived with another SHA-256")
            return data

        return self._retry(f"reading {key}", request)

    def get_whole(self, key: str, size_bytes: int, stopped: threading.Event) -> bytes | None:
        """An object of a known size; None if there is no such object."""

        def request() -> bytes | None:
            from botocore.exceptions import ClientError

            try:
                data = self._client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
            except ClientError as error:
                if error_code(error) in _ABSENT:
                    return None
                raise
            if len(data) != size_bytes:
                raise DamagedTransferError(f"{len(data):,} bytes of {key} arrived instead of {size_bytes:,}")
            return data

        return self._retry(f"downloading {key}", request, stopped)

    def get_range_into(
        self, key: str, start: int, size_bytes: int, sink: Callable[[int, bytes], None], stopped: threading.Event
    ) -> bool:
        """Give bytes of an object to `sink`, each piece with its position; False if the object ends earlier."""

        def request() -> bool:
            from botocore.exceptions import ClientError

            position, end = start, start + size_bytes
            try:
                answer = self._client.get_object(Bucket=self.bucket, Key=key, Range=f"bytes={start}-{end - 1}")
            except ClientError as error:
                if error_code(error) in _ABSENT:
                    return False
                raise
            while data := answer["Body"].read(_PIECE_BYTES):
                sink(position, data)
                position += len(data)
            if position != end:
                raise DamagedTransferError(f"{position - start:,} bytes of {key} arrived instead of {size_bytes:,}")
            return True

        return self._retry(f"downloading {key}", request, stopped)

    def holds(self, key: str, size_bytes: int, sha256: str, stopped: threading.Event | None = None) -> bool:
        """Whether the object is there with this size and digest."""

        def request() -> bool:
            from botocore.exceptions import ClientError

            try:
                answer = self._client.head_object(Bucket=self.bucket, Key=key)
            except ClientError as error:
                if status_of(error) == 404:
                    return False
                raise
            return answer["ContentLength"] == size_bytes and answer["Metadata"].get(_SHA256) == sha256

        return self._retry(f"looking at {key}", request, stopped)

    def list_keys(self, prefix: str) -> list[str]:
        return [key for key, _, _ in self.list_entries(prefix)]

    def list_entries(self, prefix: str) -> list[tuple[str, int, float]]:
        """Key, size in bytes and time of the last change, in seconds since 1970, of each object below a prefix."""
        entries: list[tuple[str, int, float]] = []
        following: dict[str, Any] = {}
        while True:
            page = self._retry(
                f"listing {prefix}",
                lambda more=following: self._client.list_objects_v2(Bucket=self.bucket, Prefix=prefix, **more),  # type: ignore[misc]
            )
            entries += [
                (entry["Key"], entry["Size"], entry["LastModified"].timestamp()) for entry in page.get("Contents", [])
            ]
            if not page.get("IsTruncated"):
                return entries
            following = {"ContinuationToken": page["NextContinuationToken"]}

    def delete(self, key: str) -> None:
        self._retry(f"deleting {key}", lambda: self._client.delete_object(Bucket=self.bucket, Key=key))

    def delete_all(self, keys: list[str]) -> None:
        """Delete objects one by one: deleting in bulk needs checksums that not every server understands."""
        with ThreadPoolExecutor(self.settings.num_workers) as pool:
            list(pool.map(self.delete, keys))

    def begin_parts(self, key: str, sha256: str) -> str:
        """Begin an upload in parts; returns its id."""
        answer = self._retry(
            f"uploading {key}",
            lambda: self._client.create_multipart_upload(Bucket=self.bucket, Key=key, Metadata={_SHA256: sha256}),
        )
        return answer["UploadId"]

    def unfinished(self, prefix: str) -> Iterator[tuple[str, str]]:
        """Key and id of each upload in parts below a prefix that was begun and not completed."""
        answer = self._retry(
            f"listing {prefix}", lambda: self._client.list_multipart_uploads(Bucket=self.bucket, Prefix=prefix)
        )
        for upload in answer.get("Uploads", []):
            if upload["Key"].startswith(prefix):
                yield upload["Key"], upload["UploadId"]

    def uploaded_parts(self, key: str, upload_id: str) -> dict[int, str]:
        """ETag of each part that has arrived, by its number from 1."""
        parts: dict[int, str] = {}
        following: dict[str, Any] = {}
        while True:
            page = self._retry(
                f"listing the parts of {key}",
                lambda more=following: self._client.list_parts(  # type: ignore[misc]
                    Bucket=self.bucket, Key=key, UploadId=upload_id, **more
                ),
            )
            parts |= {part["PartNumber"]: part["ETag"] for part in page.get("Parts", [])}
            if not page.get("IsTruncated"):
                return parts
            following = {"PartNumberMarker": page["NextPartNumberMarker"]}

    def put_part(self, key: str, upload_id: str, number: int, data: bytearray, stopped: threading.Event) -> str:
        """Upload one part; returns its ETag."""
        # A bytearray goes out in one call; bytes are made a file by botocore, and sent 16 KiB at a time.
        answer = self._retry(
            f"uploading {key}",
            lambda: self._client.upload_part(
                Bucket=self.bucket,
                Key=key,
                UploadId=upload_id,
                PartNumber=number,
                Body=data,  # type: ignore[arg-type]
            ),
            stopped,
        )
        return answer["ETag"]

    def complete(
        self, key: str, upload_id: str, etags: dict[int, str], size_bytes: int, sha256: str, stopped: threading.Event
    ) -> None:
        """Make one object of the parts."""
        parts = [{"PartNumber": number, "ETag": etags[number]} for number in sorted(etags)]

        def request() -> None:
            from botocore.exceptions import ClientError

            try:
                self._client.complete_multipart_upload(
                    Bucket=self.bucket,
                    Key=key,
                    UploadId=upload_id,
                    MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]
                )
            except ClientError as error:
                # After a lost answer the upload is gone because it was completed.
                if error_code(error) != "NoSuchUpload" or not self.holds(key, size_bytes, sha256):
                    raise

        self._retry(f"completing {key}", request, stopped)

    def abort(self, key: str, upload_id: str) -> None:
        def request() -> None:
            from botocore.exceptions import ClientError

            try:
                self._client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload_id)
            except ClientError as error:
                if error_code(error) != "NoSuchUpload":
                    raise

        self._retry(f"cleaning up {key}", request)
