"""Progress of long work, seen by whoever runs it.

A step runs in a process of its own, often several levels below the terminal. It reports through
`track`; where the reports go is decided by the environment, not by the step:

- `WINDLASS_EVENTS` names a file: each report is appended to it as one line of JSON, in one write, so that
  several processes can share the file. The command line follows it and draws bars.
- a process that draws bars itself says so with `shown_by`.
- otherwise a plain line goes to standard error, at most one every few seconds.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

EVENTS_VARIABLE = "WINDLASS_EVENTS"
_EVENT_INTERVAL_S = 0.2
_LINE_INTERVAL_S = 5.0
_show: Callable[[dict[str, Any]], object] | None = None


@contextmanager
def shown_by(show: Callable[[dict[str, Any]], object]) -> Iterator[None]:
    """Hand what this process reports to `show`, as the dictionaries that would be lines of the events file."""
    global _show
    before, _show = _show, show
    try:
        yield
    finally:
        _show = before


def emit(kind: str, **fields: Any) -> None:
    """Report one event; where nobody draws bars, only messages for people are shown."""
    path, event = os.environ.get(EVENTS_VARIABLE), {"kind": kind, "time": time.time(), **fields}
    if path:
        line = json.dumps(event, default=str) + "\n"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
    elif _show is not None:
        _show(event)
    elif kind == "message":
        print(fields["text"], file=sys.stderr, flush=True)


def _are_events_wanted() -> bool:
    return bool(os.environ.get(EVENTS_VARIABLE)) or _show is not None


def message(text: str) -> None:
    """Tell the user something that matters once, such as a warning or a decision taken for them."""
    emit("message", text=text)


class Tracker:
    """One piece of work whose progress is counted in `unit`s."""

    def __init__(self, name: str, total: float | None, unit: str) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.done = 0.0
        self._started_s = time.monotonic()
        self._reported_s = float("-inf")

    def update(self, done: float, **figures: float) -> None:
        """Say how much is done in all; `figures` (a loss, an accuracy) are shown beside it."""
        self.done = done
        interval_s = _EVENT_INTERVAL_S if _are_events_wanted() else _LINE_INTERVAL_S
        if time.monotonic() - self._reported_s >= interval_s:
            self._report("progress", figures)

    def advance(self, count: float = 1, **figures: float) -> None:
        self.update(self.done + count, **figures)

    def _report(self, kind: str, figures: dict[str, float]) -> None:
        now_s = time.monotonic()
        self._reported_s = now_s
        if _are_events_wanted():
            emit(kind, name=self.name, done=self.done, total=self.total, unit=self.unit, figures=figures)
            return
        rate = self.done / max(now_s - self._started_s, 1e-9)
        total = f"/{self.total:,.0f}" if self.total is not None else ""
        shown = "".join(f"  {name} {value:.4g}" for name, value in figures.items())
        print(f"{self.name}: {self.done:,.0f}{total} {self.unit}, {rate:,.1f}/s{shown}", file=sys.stderr, flush=True)


@contextmanager
def track(name: str, total: float | None = None, unit: str = "items") -> Iterator[Tracker]:
    """Track a piece of work: `with track("reading", total=rows, unit="rows") as bar: bar.advance(n)`."""
    tracker = Tracker(name, total, unit)
    emit("started", name=name, total=total, unit=unit)
    try:
        yield tracker
    finally:
        emit("finished", name=name, done=tracker.done, unit=unit)
