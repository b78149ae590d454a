"""What can go wrong while variants are looked at more closely."""

from __future__ import annotations

from collections.abc import Sequence

from windlass.errors import InvalidInputError


class SensitiveColumnAbsentError(InvalidInputError):
    """Rows do not carry a column by whose groups they are to be compared."""

    def __init__(self, column: str, carried: Sequence[str]) -> None:
        super().__init__(
            f"evaluate.sensitive: these data do not carry the column {column!r}, only {', '.join(carried[:20])}; "
            "prepare them with a recipe that names it, or take it out of evaluate.sensitive"
        )
        self.column = column
