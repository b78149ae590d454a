"""Follows the log of rank 0 through reconnections, restarted containers and replaced pods: no line lost, none twice."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from windlass.cluster._rest import Backoff, Query, Rest, cut_off, lines_of
from windlass.cluster.errors import ApiError
from windlass.cluster.kinds import Resource
from windlass.cluster.pods import ContainerRun, container_runs, log_path

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
_IDLE_S = 120.0
"""A log that says nothing for so long is asked for again: the connection may be dead."""
_SETTLE_S = 5.0
"""After the end of a log, how long the news may take that its container has ended."""


@dataclass(frozen=True)
class LogLine:
    """A line of rank 0, without its timestamp."""

    text: str


@dataclass(frozen=True)
class LogEnd:
    """Nothing will follow."""


class LogCursor:
    """Tells new lines from those seen before, when a log is read again from some second on.

    Timestamps are compared only until the first new line: a node's clock may be set back in mid-run.
    """

    def __init__(self) -> None:
        self.since: str | None = None
        """The timestamp of the last line, as `sinceTime` takes it."""
        self._last_ns = 0
        self._shown_at_last = 0
        self._to_skip = 0
        self._is_catching_up = False

    def rewind(self) -> None:
        """The log is about to be read again from `since` on."""
        self._is_catching_up = self.since is not None
        self._to_skip = self._shown_at_last

    def new_text(self, line: str) -> str | None:
        """The text of a line with a timestamp; None if it was seen before, or is the kubelet's own."""
        stamp, _, text = line.partition(" ")
        stamp_ns = nanoseconds(stamp)
        if stamp_ns is None:
            return None
        if self._is_catching_up:
            if stamp_ns < self._last_ns:
                return None
            if stamp_ns == self._last_ns and self._to_skip:
                self._to_skip -= 1
                return None
            self._is_catching_up = False
        self._shown_at_last = self._shown_at_last + 1 if stamp_ns == self._last_ns else 1
        self._last_ns, self.since = stamp_ns, stamp
        return text


class LogFollower(threading.Thread):
    """Gives `sink` each line of the container `container` of the pods that it is told about, one pod at a time."""

    def __init__(self, rest: Rest, container: str, sink: Callable[[LogLine | LogEnd], None]) -> None:
        super().__init__(name="log", daemon=True)
        self._rest, self._container, self._sink = rest, container, sink
        self._news = threading.Condition()
        self._pod: Resource | None = None
        self._is_last = False
        self._stopped = threading.Event()
        self._done: set[str] = set()
        self._response: BaseHTTPResponse | None = None

    def update(self, pod: Resource | None) -> None:
        """Rank 0's pod as it is now."""
        with self._news:
            self._pod = pod
            self._news.notify_all()

    def finish(self) -> None:
        """No container will be started any more: end after the present one's last line."""
        with self._news:
            self._is_last = True
            self._news.notify_all()

    def stop(self) -> None:
        """End soon, wherever it is."""
        self._stopped.set()
        with self._news:
            self._news.notify_all()
        cut_off(self._response)

    def run(self) -> None:
        while (found := self._next_run()) is not None:
            pod, container_run = found
            self._follow(pod, container_run.container_id)
            self._done.add(container_run.container_id)
        self._sink(LogEnd())

    def _next_run(self) -> tuple[Resource, ContainerRun] | None:
        with self._news:
            while not self._stopped.is_set():
                for container_run in container_runs(self._pod, self._container) if self._pod else ():
                    if container_run.container_id not in self._done:
                        assert self._pod is not None
                        return self._pod, container_run
                if self._is_last:
                    return None
                self._news.wait()
        return None

    def _follow(self, pod: Resource, container_id: str) -> None:
        cursor, backoff = LogCursor(), Backoff()
        while not self._stopped.is_set():
            now = self._present(pod, container_id)
            if now is None:
                return
            try:
                if now.is_ended:
                    self._read_to_the_end(pod, now, cursor)
                    return
                self._stream(pod, cursor)
            except ConnectionError:
                self._stopped.wait(backoff.next_s())
            except ApiError:  # the pod is gone, or its container is not there yet
                self._wait_for_news(pod, container_id, 1.0)
            else:
                self._wait_for_news(pod, container_id, _SETTLE_S)

    def _present(self, pod: Resource, container_id: str) -> ContainerRun | None:
        """That run of the container as the newest report has it; None if the pod or the run is forgotten."""
        with self._news:
            if self._pod is None or self._pod["metadata"]["uid"] != pod["metadata"]["uid"]:
                return None
            runs = container_runs(self._pod, self._container)
        return next((each for each in runs if each.container_id == container_id), None)

    def _wait_for_news(self, pod: Resource, container_id: str, timeout_s: float) -> None:
        def is_over() -> bool:
            now = self._present(pod, container_id)
            return now is None or now.is_ended or self._stopped.is_set()

        with self._news:
            self._news.wait_for(is_over, timeout_s)

    def _stream(self, pod: Resource, cursor: LogCursor) -> None:
        self._response = self._rest.stream(log_path(pod), self._query(cursor, follow="true"), _IDLE_S)
        if self._stopped.is_set():
            self._response.close()
            return
        self._show((line.decode(errors="replace") for line in lines_of(self._response, self._stopped)), cursor)

    def _read_to_the_end(self, pod: Resource, container_run: ContainerRun, cursor: LogCursor) -> None:
        previous = {"previous": "true"} if container_run.is_previous else {}
        try:
            text = self._rest.text(log_path(pod), self._query(cursor, **previous))
        except ApiError:  # the kubelet has removed it: what was followed is all there is
            return
        self._show(iter(text.split("\n")), cursor)

    def _query(self, cursor: LogCursor, **more: str) -> Query:
        cursor.rewind()
        since = {"sinceTime": cursor.since} if cursor.since else {}
        return {"container": self._container, "timestamps": "true", **since, **more}

    def _show(self, lines: Iterator[str], cursor: LogCursor) -> None:
        for line in lines:
            text = cursor.new_text(line) if line else None
            if text is not None:
                self._sink(LogLine(text))


def nanoseconds(stamp: str) -> int | None:
    """Since 1970, of a timestamp as the kubelet writes it: RFC 3339 with up to nine digits, in any time zone.

    None for anything else: the kubelet puts its own "unable to retrieve container logs" into the log without one.
    """
    found = _STAMP.fullmatch(stamp)
    if not found:
        return None
    seconds, digits, zone = found.groups()
    return int(datetime.fromisoformat(seconds + zone).timestamp()) * 10**9 + int((digits or "").ljust(9, "0"))
