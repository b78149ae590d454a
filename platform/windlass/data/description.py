"""`dataset.json`: what a dataset bundle holds, and how its rows become numbers for a network."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from windlass.data.config import ColumnType
from windlass.schema import Document, Section

DATASET_NAME = "dataset.json"
IMAGE_COLUMN = "image"
LABEL_COLUMN = "label"
SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


class Column(Section):
    """A column that was kept, with its type as stored in the shards: number is double, category is string."""

    name: str
    type: ColumnType
    role: Literal["feature", "target", "carried"]
    """`carried` is no feature: it lies beside them for whoever compares groups of rows."""


class NumberTransform(Section):
    """A number becomes (x - mean) / scale; where it is missing, 0, and 1 in a second output if it has one."""

    kind: Literal["number"] = "number"
    column: str
    mean: float
    scale: float
    missing_indicator: bool


class CategoryTransform(Section):
    """A string becomes one output per value of `vocabulary`, plus one for any other value if `other` is set.

    A missing value is the empty string. Without `other`, a value outside the vocabulary is all zeros.
    """

    kind: Literal["category"] = "category"
    column: str
    vocabulary: tuple[str, ...]
    other: bool


class PixelsTransform(Section):
    """A uint8 pixel becomes (x / 255 - mean) / std, each per channel; [B, H, W, C] becomes [B, C, H, W]."""

    kind: Literal["pixels"] = "pixels"
    mean: tuple[float, ...]
    std: tuple[float, ...]


Transform = Annotated[NumberTransform | CategoryTransform | PixelsTransform, Field(discriminator="kind")]


class TargetTransform(Section):
    """A regression target is learned as (y - mean) / scale; the served graph undoes it."""

    mean: float
    scale: float


class DatasetDescription(Document):
    """Everything about a bundle except its rows.

    Shards are Parquet files. Of a table, they hold the kept columns under their own names (number: double with nulls,
    category: string with nulls; the target: int64 index into `class_names`, or double). Of images, `image` (fixed-size
    binary of H*W*C bytes) and `label` (int64).
    """

    format_version: Literal[1] = 1
    modality: Literal["table", "images"]
    target_kind: Literal["class", "number"]
    target: str
    columns: tuple[Column, ...]
    class_names: tuple[str, ...] | None
    image_shape: tuple[int, int, int] | None = None
    """Height, width, channels."""
    rows: dict[SplitName, int]
    class_counts: dict[SplitName, tuple[int, ...]] | None
    shards: dict[SplitName, tuple[str, ...]]
    transforms: tuple[Transform, ...]
    target_transform: TargetTransform | None = None
    fingerprint: str
    """Of the source's content: the same for any order of rows, any sharding and any engine."""
    dropped_rows: dict[str, int] = Field(default_factory=dict)
    """Reason to count."""
    dropped_columns: dict[str, str] = Field(default_factory=dict)
    """Column to reason."""
    warnings: tuple[str, ...] = ()

    @property
    def features(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.role == "feature")
