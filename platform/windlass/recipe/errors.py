"""What can be wrong with a recipe."""

from __future__ import annotations

from collections.abc import Sequence

from windlass.errors import InvalidInputError


class RecipeError(InvalidInputError):
    """A recipe that cannot be run; all its mistakes are told at once."""

    def __init__(self, where: str, problems: Sequence[str]) -> None:
        listed = "\n".join(f"  {problem}" for problem in problems)
        count = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        super().__init__(f"{where} has {count}; nothing was started:\n{listed}")
        self.where, self.problems = where, tuple(problems)
