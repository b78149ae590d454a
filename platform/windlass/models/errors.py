"""What can be wrong with a model that a user asked for."""

from __future__ import annotations

from pathlib import Path

from windlass.errors import InvalidInputError


class InvalidModelError(InvalidInputError):
    """The architecture or one of its parameters cannot be had."""


class InvalidModuleError(InvalidInputError):
    """A user's own module does not do what a model has to do."""

    def __init__(self, path: Path | str, problem: str, advice: str) -> None:
        super().__init__(f"{path}: {problem}; {advice}")
        self.path, self.problem = path, problem
