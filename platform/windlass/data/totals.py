"""Sums over the rows of a table by key; an engine may make them where rows pass, for sums of parts can be summed."""

# ruff: noqa: S608 - no text of a user enters SQL other than as a quoted literal

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

Found = list[tuple[Any, ...]] | None
"""One row for each key, in no order: its values, the count, the sums; None where there are more keys than wanted."""


@dataclass(frozen=True)
class Totals:
    """What to sum."""

    keys: tuple[str, ...]
    """SQL by whose values rows are told apart; none: all are one."""
    sums: tuple[str, ...] = ()
    """SQL of whole numbers that are summed, beside the count of the rows."""
    condition: str = "true"
    """SQL of the rows that count."""
    most: int = 1000
    """Different keys; of more than these nothing is told."""

    def query(self, relation: str) -> str:
        """One row for each key: its values, the count, the sums."""
        selected = ", ".join([*self.keys, "count(*)", *(f"sum({each})" for each in self.sums)])
        positions = ", ".join(str(position) for position in range(1, len(self.keys) + 1))
        grouped = f"GROUP BY {positions}" if self.keys else ""
        return f"SELECT {selected} FROM {relation} WHERE {self.condition} {grouped} LIMIT {self.most + 1}"


@dataclass
class Summed:
    """Sums of those parts that were added so far."""

    totals: Totals
    _found: dict[tuple[Any, ...], list[int]] | None = field(default_factory=dict)

    def add(self, rows: Iterable[Sequence[Any]] | None) -> None:
        """Rows of the query over a part; None: it had too many keys, so all parts together have."""
        if rows is None:
            self._found = None
        if self._found is None or rows is None:
            return
        split = len(self.totals.keys)
        for row in rows:
            key, figures = tuple(row[:split]), [int(figure or 0) for figure in row[split:]]
            before = self._found.get(key, [0] * len(figures))
            self._found[key] = [one + other for one, other in zip(before, figures, strict=True)]
        if len(self._found) > self.totals.most:
            self._found = None

    @property
    def rows(self) -> Found:
        return None if self._found is None else [(*key, *figures) for key, figures in self._found.items()]


def add_up(totals: Sequence[Totals], parts: Iterable[Sequence[Found]]) -> list[Found]:
    """What parts of a table found, as the whole of it: of each part one for each of `totals`."""
    summed = [Summed(each) for each in totals]
    for found in parts:
        for each, rows in zip(summed, found, strict=True):
            each.add(rows)
    return [each.rows for each in summed]
