"""`tabular-classification`: which class a row belongs to."""

from __future__ import annotations

from typing import ClassVar, Literal

from windlass.tasks.classification import Classification


class TabularClassification(Classification):
    """Rows of a table, one class each."""

    name: ClassVar[str] = "tabular-classification"
    modality: ClassVar[Literal["table", "images"]] = "table"
    default_architecture: ClassVar[str] = "mlp"
