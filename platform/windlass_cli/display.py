"""The events of `windlass.progress`, shown as they come: bars, plain lines, or JSON lines."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from windlass.progress import shown_by
from windlass_cli.console import duration, figure, stderr

Event = dict[str, Any]
_LINE_INTERVAL_S = 5.0


class Display(Protocol):
    def show(self, event: Event) -> None: ...


@contextmanager
def open_display(*, as_json: bool) -> Iterator[Display]:
    """The display that suits who looks: `as_json` for machines, bars on a terminal, else lines; all on stderr.

    It also shows what this process itself reports.
    """
    with _made(as_json=as_json) as display, shown_by(display.show):
        yield display


@contextmanager
def _made(*, as_json: bool) -> Iterator[Display]:
    console = stderr()
    if as_json:
        yield JsonDisplay()
    elif console.is_terminal:
        with Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            _RateColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[figures]}", style="dim"),
            console=console,
            transient=True,
        ) as progress:
            yield BarDisplay(progress)
    else:
        yield LineDisplay(console)


class JsonDisplay:
    """Each event as one line of JSON."""

    def show(self, event: Event) -> None:
        print(json.dumps(event, default=str), file=sys.stderr, flush=True)


class LineDisplay:
    """Steps as they start and end, and progress in between every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started_s: dict[str, float] = {}
        self._shown_s = time.monotonic()

    def show(self, event: Event) -> None:
        if event["kind"] == "message":
            self._line(f"note: {event['text']}")
        elif event["kind"] == "step":
            self._line(f"{event['step']}: started" if event["status"] == "started" else step_line(event))
        elif event["kind"] == "started":
            self._started_s[event["name"]] = event["time"]
        elif event["kind"] == "progress" and time.monotonic() - self._shown_s >= _LINE_INTERVAL_S:
            self._line(self._progress(event))

    def _progress(self, event: Event) -> str:
        name, done, total = event["name"], event["done"], event["total"]
        elapsed_s = max(event["time"] - self._started_s.get(name, event["time"]), 1e-9)
        rate = done / elapsed_s
        count = f"{figure(done)}/{figure(total)}" if total else figure(done)
        left = f", {duration((total - done) / rate)} left" if total and rate > 0 else ""
        return f"  {name}: {count} {event['unit']}, {figure(rate)}/s{left}{_figures(event)}"

    def _line(self, text: str) -> None:
        self._shown_s = time.monotonic()
        self._console.print(text, markup=False)


class BarDisplay:
    """A line for each finished step, and a bar for each piece of work that is under way."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def show(self, event: Event) -> None:
        kind = event["kind"]
        if kind == "message":
            self._progress.console.print(f"[yellow]note:[/yellow] {escape(event['text'])}")
        elif kind == "step":
            self._step(event)
        elif kind == "started":
            self._start(event["name"], f"  {event['name']}", event["total"], event["unit"])
        elif kind == "progress":
            if event["name"] not in self._tasks:
                self._start(event["name"], f"  {event['name']}", event["total"], event["unit"])
            self._progress.update(
                self._tasks[event["name"]], completed=event["done"], total=event["total"], figures=_figures(event)
            )
        elif kind == "finished":
            self._end(event["name"])

    def _step(self, event: Event) -> None:
        if event["status"] == "started":
            self._start(f"step {event['step']}", f"[bold]{event['step']}[/bold]", None, "")
            return
        for name in list(self._tasks):
            self._end(name)
        colour = "green" if event["status"] == "finished" else "red"
        mark = "✓" if event["status"] == "finished" else "✗"
        self._progress.console.print(f"[{colour}]{mark}[/{colour}] {escape(step_line(event))}")

    def _start(self, name: str, description: str, total: float | None, unit: str) -> None:
        self._end(name)
        self._tasks[name] = self._progress.add_task(description, total=total, unit=unit, figures="")

    def _end(self, name: str) -> None:
        if name in self._tasks:
            self._progress.remove_task(self._tasks.pop(name))


class _RateColumn(ProgressColumn):
    """How much is done, and how fast."""

    def render(self, task: Task) -> Text:
        unit = task.fields["unit"]
        if not unit:
            return Text(duration(task.elapsed or 0.0), style="dim")
        count = f"{figure(task.completed)}/{figure(task.total)}" if task.total else figure(task.completed)
        rate = f"  {figure(task.speed)}/s" if task.speed else ""
        return Text(f"{count} {unit}{rate}")


def step_line(event: Event) -> str:
    """`train     12 s  accuracy 0.99`."""
    if event["status"] == "failed":
        return f"{event['step']:9} failed"
    took = "done before" if event["cached"] else duration(event["seconds"])
    figures = "  ".join(f"{name.replace('_', ' ')} {figure(value)}" for name, value in event["summary"].items())
    return f"{event['step']:9} {took:>11}  {figures}".rstrip()


def _figures(event: Event) -> str:
    return "".join(f"  {name} {figure(value)}" for name, value in event.get("figures", {}).items())
