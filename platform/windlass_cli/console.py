"""How things are shown to people and to machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_UNSEEN_WIDTH = 1000


def stdout() -> Console:
    """For results. Lines are not wrapped where there is no terminal, so that they can be searched."""
    return Console(width=None if sys.stdout.isatty() else _UNSEEN_WIDTH, highlight=False)


def stderr() -> Console:
    """For progress and warnings."""
    return Console(stderr=True, width=None if sys.stderr.isatty() else _UNSEEN_WIDTH, highlight=False)


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(document, indent=2, default=str, ensure_ascii=False))


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, right: frozenset[int] = frozenset()) -> Table:
    """A plain table; columns in `right` hold numbers. Cells are text, never markup."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, heading in enumerate(headings):
        made.add_column(heading, justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*[Text(cell) for cell in row])
    return made


def figure(value: float | int | str | None) -> str:
    """A number as people read it: four digits that count, thousands apart."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e15):
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3:05`, `1:02:03`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
