"""How long an analysis may go on asking, and what it left out because its time was over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import TypeVar

from windlass.evaluation.analysis.documents import LeftOut, PartName

_Item = TypeVar("_Item")
_Found = TypeVar("_Found")
_ITEMS: dict[PartName, str] = {
    "robustness": "changes of the rows",
    "importance": "shuffled columns",
    "image_examples": "explained pictures",
    "adversarial": "attacks",
}
"""What each part looks at, in a sentence."""


class TimeIsOverError(Exception):
    """What is under way is not finished."""


class TimeLimit:
    """Seconds from now.

    Attributes:
        left_out: the parts that were not looked at to their end.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.left_out: list[LeftOut] = []
        self._ends_s = monotonic() + seconds

    def check(self) -> None:
        """Raises TimeIsOverError if so it is."""
        if monotonic() >= self._ends_s:
            raise TimeIsOverError

    def each(self, part: PartName, items: Sequence[_Item], look: Callable[[_Item], _Found]) -> tuple[_Found, ...]:
        """What was found of the items, in their order, before the time was over; the rest of them is left out."""
        found: list[_Found] = []
        try:
            for item in items:
                self.check()
                found.append(look(item))
        except TimeIsOverError:
            self.left_out.append(LeftOut(part=part, done=len(found), planned=len(items)))
        return tuple(found)

    def sentence(self) -> str | None:
        """What was left out and why; None if nothing was."""
        if not self.left_out:
            return None
        done = ", ".join(f"{cut.done} of {cut.planned} {_ITEMS[cut.part]}" for cut in self.left_out)
        return f"evaluate.analysis.max_time, {self.seconds:g} s, was over after {done}; the rest is left out."
