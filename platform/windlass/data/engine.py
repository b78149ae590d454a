"""What the SQL program of prepare needs of an engine: DuckDB on one machine, or on parts that Spark distributes.

Columns are named c0, c1, … inside the program, so that no name of a user's meets SQL's rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

    from windlass.data.bundle import Written
    from windlass.data.tables import RawTable
    from windlass.data.totals import Found, Totals


@dataclass(frozen=True)
class Reject:
    """A line that no row could be made of; `line` counts from 1, the header included, None if it is not known."""

    file: str
    line: int | None
    column: str | None
    reason: str


class Reader(Protocol):
    """Runs SQL over relations that lie on this machine's disk."""

    def sample(self, name: str, count: int) -> list[tuple[Any, ...]]:
        """The first rows of a relation."""
        ...

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a small result."""
        ...


class Engine(Protocol):
    """Runs SQL over relations that are larger than memory."""

    def open(self, name: str, table: RawTable) -> None:
        """Make a table readable as the relation `name`, rows in the order of its files; bad lines are left out.

        Its columns are c0, c1, … in the order of `table.columns`: DOUBLE where stored as numbers, else VARCHAR.
        """
        ...

    def sample(self, name: str, count: int, query: str | None = None) -> list[tuple[Any, ...]]:
        """The first rows of an opened relation, or of a query of it that makes each row of one row alone."""
        ...

    def stage(self, name: str, query: str, source: str, totals: Sequence[Totals]) -> list[Found]:
        """Compute a query over the opened relation `source` once and keep it under `name`.

        The query has to be one row for each row of the source, made of that row alone: no aggregate, join or sort.

        Returns:
            The totals of its rows.
        """
        ...

    def rejects(self, name: str) -> tuple[int, list[Reject]]:
        """How many lines the last `stage` from an opened relation left out, and the first of them."""
        ...

    def totals(self, relation: str, totals: Sequence[Totals]) -> list[Found]:
        """Totals of the rows of a relation.

        A row of it has to come from staged and kept rows of one digest alone.
        """
        ...

    def keep(self, name: str, query: str) -> None:
        """Make a relation of the staged one readable as `name`.

        A row of it has to come from rows of one digest alone, and the column `digest` has to say which.
        """
        ...

    def write(
        self,
        columns: str,
        relation: str,
        order: Sequence[str],
        *,
        output: Path,
        schema: pa.Schema,
        num_classes: int | None,
    ) -> Written:
        """Write the shards of a relation in the order of columns of it, of which the first is the row's digest.

        A row of the relation has to come from staged and kept rows of one digest alone.

        Args:
            columns: what is selected: the columns of `schema` in their order, then `split`.
            num_classes: of the last column of `schema`, where it is an index; their rows are counted.
        """
        ...

    def shards(self, name: str, table: RawTable) -> AbstractContextManager[Reader]:
        """Read shards that `write` has left as the relation `name`, in their order: they lie on this machine's disk."""
        ...

    def close(self) -> None: ...
