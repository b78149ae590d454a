"""Requests to an object store, asked again while the failure may pass."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from windlass.errors import WindlassError
from windlass.storage._errors import (
    BucketNotFoundError,
    StorageAccessError,
    StorageRequestError,
    StorageUnreachableError,
)

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

T = TypeVar("T")

_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 5.0
_PASSING_STATUS = {408, 429, 500, 502, 503, 504}
_PASSING_CODES = {
    "BadDigest",
    "ConditionalRequestConflict",
    "OperationAborted",
    "RequestTimeout",
    "SlowDown",
    "XAmzContentSHA256Mismatch",
}
_ACCESS_STATUS = {401, 403}


class DamagedTransferError(Exception):
    """What arrived is not what was sent; never leaves this package."""


class TransferStoppedError(Exception):
    """Another part of the same transfer has failed; never leaves this package."""


class Retrier:
    """Asks again with full jitter: after the n-th failure it waits between 0 and min(5 s, 0.1 s · 2^n).

    Full jitter is the variant that spreads many clients best
    (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
    """

    def __init__(self, bucket: str, endpoint: str, retry_for_s: float) -> None:
        self.bucket, self.endpoint, self.retry_for_s = bucket, endpoint, retry_for_s

    def __call__(self, action: str, request: Callable[[], T], stopped: threading.Event | None = None) -> T:
        """The answer to a request.

        Args:
            action: what is being done, for people: "uploading model.onnx".
            stopped: set when the answer is no longer wanted; then no more is asked.

        Raises:
            StorageUnreachableError: it kept failing for `retry_for_s`.
            StorageAccessError, BucketNotFoundError, StorageRequestError: asking again would not help.
        """
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        stopped = stopped or threading.Event()
        failures, first_failure_s = 0, 0.0
        while True:
            try:
                return request()
            except (BotoCoreError, ClientError, ResponseParserError, DamagedTransferError) as error:
                if not _may_pass(error):
                    raise self._explained(error, action) from error
                now_s = time.monotonic()
                first_failure_s = first_failure_s or now_s
                if (waited_s := now_s - first_failure_s) >= self.retry_for_s:
                    raise StorageUnreachableError(self.endpoint, action, waited_s, _one_line(error)) from error
            failures += 1
            longest_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** min(failures, 10))
            if stopped.wait(random.uniform(0, longest_s)):  # noqa: S311 - jitter is no secret
                raise TransferStoppedError

    def _explained(self, error: Exception, action: str) -> WindlassError:
        from botocore.exceptions import ClientError

        if not isinstance(error, ClientError):
            if "Credential" in type(error).__name__ or "Token" in type(error).__name__:
                return StorageAccessError(self.endpoint, action, _one_line(error))
            return StorageRequestError(self.endpoint, action, _one_line(error))
        if error_code(error) == "NoSuchBucket":
            return BucketNotFoundError(self.bucket, self.endpoint)
        if status_of(error) in _ACCESS_STATUS:
            return StorageAccessError(self.endpoint, action, error_code(error))
        return StorageRequestError(self.endpoint, action, _one_line(error))


def status_of(error: ClientError) -> int:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def error_code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "")


def _may_pass(error: Exception) -> bool:
    from botocore import exceptions
    from botocore.parsers import ResponseParserError

    if isinstance(error, exceptions.ClientError):
        return status_of(error) in _PASSING_STATUS or error_code(error) in _PASSING_CODES
    if isinstance(error, exceptions.SSLError):
        return "certificate" not in str(error).lower()
    passing = (
        DamagedTransferError,
        ResponseParserError,
        exceptions.ConnectionError,
        exceptions.HTTPClientError,
        exceptions.IncompleteReadError,
    )
    return isinstance(error, passing)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
