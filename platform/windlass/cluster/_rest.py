"""The API server over the connections of a kubernetes `ApiClient`: JSON in and out, outages waited out."""

from __future__ import annotations

import contextlib
import copy
import json
import random
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from windlass.cluster.errors import ApiError, ClusterUnreachableError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient
    from urllib3 import BaseHTTPResponse

REQUEST_TIMEOUT_S = 10.0
OUTAGE_S = 300.0
"""An API server that restarts is away for half a minute; longer than this something else is wrong."""

Query = Mapping[str, str]


class Backoff:
    """Waits a random time below a bound that doubles, so that many clients do not come back all at once."""

    def __init__(self, first_s: float = 0.1, most_s: float = 5.0) -> None:
        self._first_s, self._most_s = first_s, most_s
        self._bound_s = first_s

    def reset(self) -> None:
        self._bound_s = self._first_s

    def next_s(self) -> float:
        """How long to wait now."""
        bound_s = self._bound_s
        self._bound_s = min(self._most_s, 2 * bound_s)
        return random.uniform(0, bound_s)  # noqa: S311  (jitter)


class Rest:
    """Requests to one API server. Safe to use from several threads.

    Raises (all methods):
        ApiError: the server refuses the request.
        ClusterUnreachableError: no answer, or only errors of the server, for longer than `outage_s`.
    """

    def __init__(self, api: ApiClient, outage_s: float = OUTAGE_S) -> None:
        self._api, self._outage_s = api, outage_s

    def with_own_connections(self) -> Rest:
        """The same server by connections that nothing else uses, tried once and never waited for.

        A signal handler may need it while the thread that it interrupts holds the lock of the other pool.
        """
        from kubernetes.client import ApiClient

        configuration = copy.copy(self._api.configuration)
        configuration.connection_pool_maxsize = 1
        api = ApiClient(configuration)
        api.default_headers.update(self._api.default_headers)
        return Rest(api, outage_s=0.0)

    def close(self) -> None:
        """Close the connections that nothing uses any more."""
        self._api.rest_client.pool_manager.clear()

    def get(self, path: str, query: Query | None = None) -> dict[str, Any]:
        return self._json("GET", path, query)

    def find(self, path: str) -> dict[str, Any] | None:
        """The object at `path`; None where there is none."""
        try:
            return self.get(path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def create(self, path: str, body: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Create an object. After an outage it may exist already, by this very request (status 409).

        Args:
            dry_run: only ask whether it would be let in, past quotas and admission.
        """
        return self._json("POST", f"{path}?dryRun=All" if dry_run else path, body=body)

    def merge(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Change the fields that `body` has (RFC 7396)."""
        return self._json("PATCH", path, body=body, content_type="application/merge-patch+json")

    def delete(self, path: str, propagation: str, uid: str | None = None) -> bool:
        """Delete an object, only the one with `uid` if that is given; False where there is none."""
        options: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        try:
            self._json("DELETE", path, body=options)
        except ApiError as error:
            if error.status in (404, 409):
                return False
            raise
        return True

    def text(self, path: str, query: Query) -> str:
        return self._patiently("GET", path, query).data.decode(errors="replace")

    def stream(self, path: str, query: Query, idle_timeout_s: float) -> BaseHTTPResponse:
        """Open an answer that comes piece by piece; not retried, for its reader knows from where to go on.

        Raises:
            ConnectionError: the server cannot be reached or has a problem of its own; try again later.
        """
        return self._once("GET", path, query, None, "", streamed_for_s=idle_timeout_s)

    def _json(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._patiently(method, path, query, body, content_type).data)
        return answer

    def _patiently(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "",
    ) -> BaseHTTPResponse:
        backoff, give_up = Backoff(), time.monotonic() + self._outage_s
        while True:
            try:
                return self._once(method, path, query, body, content_type)
            except ConnectionError as error:
                delay_s = backoff.next_s()
                if time.monotonic() + delay_s > give_up:
                    raise ClusterUnreachableError(self._api.configuration.host, str(error)) from error
                time.sleep(delay_s)

    def _once(
        self,
        method: str,
        path: str,
        query: Query | None,
        body: Mapping[str, Any] | None,
        content_type: str,
        streamed_for_s: float | None = None,
    ) -> BaseHTTPResponse:
        from urllib3 import Timeout
        from urllib3.exceptions import HTTPError

        headers = {**self._api.default_headers, "Accept": "application/json, */*"}
        if content_type:
            headers["Content-Type"] = content_type
        # Tokens of pods are renewed: the client reads the present one for each request.
        self._api.update_params_for_auth(headers, [], ["BearerToken"])
        try:
            response: BaseHTTPResponse = self._api.rest_client.pool_manager.request(
                method,
                self._api.configuration.host + path,
                fields=dict(query) if query else None,
                body=json.dumps(body).encode() if body is not None else None,
                headers=headers,
                timeout=Timeout(connect=REQUEST_TIMEOUT_S, read=streamed_for_s or REQUEST_TIMEOUT_S),
                retries=False,
                preload_content=False,
            )
            if streamed_for_s is None or response.status >= 400:
                with contextlib.closing(response):  # one that breaks off leaves its socket to us
                    response.read(cache_content=True)
            if response.status >= 400:
                raise _error(method, path, response.status, response.data)
        except (HTTPError, OSError) as error:
            raise ConnectionError(str(error)) from error
        return response


def cut_off(response: BaseHTTPResponse | None) -> None:
    """Wake the thread that reads a streamed answer: for it the connection breaks."""
    if response is not None:
        # That thread may close the answer at this very moment, which urllib3 reports in three ways.
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            response.shutdown()


def lines_of(response: BaseHTTPResponse, stopped: threading.Event) -> Iterator[bytes]:
    """The complete lines of a streamed answer, each as it comes; what follows the last line feed is dropped.

    Raises:
        ConnectionError: the connection broke or was silent for too long.
    """
    from urllib3.exceptions import HTTPError

    rest = b""
    try:
        while not stopped.is_set():
            piece = response.read1(65536)
            if not piece:
                return
            *lines, rest = (rest + piece).split(b"\n")
            yield from lines
    except (HTTPError, OSError, ValueError) as error:  # ValueError: closed by another thread
        raise ConnectionError(str(error)) from error
    finally:
        response.close()


def _error(method: str, path: str, status: int, body: bytes) -> Exception:
    try:
        message = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        message = body.decode(errors="replace").strip()[:300] or f"HTTP status {status}"
    if status == 429 or status >= 500:
        return ConnectionError(f"{method} {path}: {status}: {message}")
    return ApiError(method, path, status, message)
