"""Keeps up with the objects of one kind, across broken connections, restarts of the API server and expired versions."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from windlass.cluster._rest import Backoff, Rest, cut_off, lines_of
from windlass.cluster.errors import ApiError, ClusterUnreachableError
from windlass.cluster.kinds import Resource
from windlass.errors import WindlassError

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

_ROUND_S = (200, 280)
"""The server ends each watch after a random time between these: a connection that died unnoticed is replaced."""
_GRACE_S = 20.0

Source = Literal["job", "pod", "event"]


@dataclass(frozen=True)
class Change:
    """An object is there, has changed, or is gone."""

    source: Source
    resource: Resource
    is_gone: bool


@dataclass(frozen=True)
class Listed:
    """All that was there when the watch began has been reported."""

    source: Source


class _ExpiredError(Exception):
    """The server no longer knows the version from which the watch wants to go on: list again."""


class Watch(threading.Thread):
    """Lists what `query` selects, then reports every change to `sink`, each state at least once.

    After a new list also what is gone is reported. A refusal of the server (no right to watch) ends the thread and is
    given to `sink` as the error that it is.
    """

    def __init__(
        self,
        rest: Rest,
        source: Source,
        path: str,
        query: dict[str, str],
        sink: Callable[[Change | Listed | WindlassError], None],
    ) -> None:
        super().__init__(name=f"watch-{source}", daemon=True)
        self._rest, self._source, self._path, self._query, self._sink = rest, source, path, query, sink
        self._stopped = threading.Event()
        self._response: BaseHTTPResponse | None = None
        self._version: str | None = None
        self._known: dict[str, Resource] = {}

    def stop(self) -> None:
        """End the thread soon; what it reads is cut off."""
        self._stopped.set()
        cut_off(self._response)

    def run(self) -> None:
        backoff = Backoff()
        while not self._stopped.is_set():
            try:
                if self._version is None:
                    self._list()
                self._watch(backoff)
            except _ExpiredError:
                self._version = None
            except ConnectionError:
                self._stopped.wait(backoff.next_s())
                self._wait_for_the_server()
            except WindlassError as error:
                self._sink(error)
                return

    def _wait_for_the_server(self) -> None:
        try:
            self._rest.get("/version")
        except ApiError:
            return  # it answers
        except ClusterUnreachableError as error:
            self._sink(error)
            self._stopped.set()

    def _list(self) -> None:
        answer = self._rest.get(self._path, self._query)
        listed = {item["metadata"]["uid"]: item for item in answer["items"]}
        for uid in self._known.keys() - listed.keys():
            self._report(self._known[uid], is_gone=True)
        for item in listed.values():
            self._report(item, is_gone=False)
        self._version = answer["metadata"]["resourceVersion"]
        self._sink(Listed(self._source))

    def _watch(self, backoff: Backoff) -> None:
        assert self._version is not None
        round_s = random.randint(*_ROUND_S)  # noqa: S311  (jitter)
        query = self._query | {
            "watch": "true",
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(round_s),
        }
        try:
            self._response = self._rest.stream(self._path, query, idle_timeout_s=round_s + _GRACE_S)
        except ApiError as error:
            if error.status == 410:
                raise _ExpiredError from None
            raise
        if self._stopped.is_set():  # stop() came before there was something to cut off
            self._response.close()
            return
        is_empty = True
        for line in lines_of(self._response, self._stopped):
            self._take(json.loads(line))
            backoff.reset()
            is_empty = False
        if is_empty:  # an API server that starts up ends watches at once, without an error
            self._stopped.wait(backoff.next_s())

    def _take(self, event: dict[str, Any]) -> None:
        resource = event["object"]
        if event["type"] == "ERROR":
            if resource.get("code") == 410:
                raise _ExpiredError
            raise ConnectionError(resource.get("message", "the watch ended with an error"))
        self._version = resource["metadata"]["resourceVersion"]
        if event["type"] != "BOOKMARK":
            self._report(resource, is_gone=event["type"] == "DELETED")

    def _report(self, resource: Resource, *, is_gone: bool) -> None:
        uid = resource["metadata"]["uid"]
        if is_gone:
            self._known.pop(uid, None)
        else:
            self._known[uid] = resource
        self._sink(Change(self._source, resource, is_gone))
