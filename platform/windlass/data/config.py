"""The recipe's `data` section."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from windlass.schema import Section, SizeBytes

ColumnType = Literal["number", "category"]


class SplitConfig(Section):
    """How rows are divided into train, validation and test."""

    validation: PositiveFloat = Field(default=0.15, lt=1, description="share of rows for choosing")
    test: PositiveFloat = Field(default=0.15, lt=1, description="share of rows read once, at the end")
    seed: NonNegativeInt = Field(default=0, description="another seed, another split")
    group: str | None = Field(default=None, description="column whose equal values stay in one split")
    time: str | None = Field(default=None, description="column by which later rows go to validation, then test")
    column: str | None = Field(default=None, description="column that says train, validation or test")

    @model_validator(mode="after")
    def _train_keeps_a_share(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test leave nothing for train; make their sum less than 1")
        return self

    @model_validator(mode="after")
    def _at_most_one_way_to_split(self) -> Self:
        if sum(way is not None for way in (self.group, self.time, self.column)) > 1:
            raise ValueError("group, time and column exclude each other; keep one")
        return self


class DataConfig(Section):
    """What to learn from."""

    source: str | tuple[str, ...] = Field(
        description="file, glob, folder of images by class, IDX pair, s3://bucket/prefix, or sklearn:NAME"
    )
    target: str | None = Field(default=None, description="column to predict; tables only")
    columns: dict[str, ColumnType] = Field(default={}, description="types that override what is inferred")
    drop: tuple[str, ...] = Field(default=(), description="columns to leave out")
    split: SplitConfig = SplitConfig()
    duplicates: Literal["refuse", "drop", "allow"] = Field(
        default="refuse", description="what to do with equal rows in different splits that you gave"
    )
    leakage: Literal["refuse", "allow"] = Field(
        default="refuse", description="what to do with a column that alone predicts the target"
    )
    bad_rows: Literal["refuse", "drop"] = Field(default="refuse", description="what to do with rows that do not parse")
    bad_images: Literal["refuse", "drop"] = Field(default="drop", description="what to do with images that do not open")
    engine: Literal["duckdb", "spark"] = Field(
        default="duckdb", description="what prepares a table; spark is for what outgrows one machine"
    )
    executors: PositiveInt = Field(
        default=2, description="of spark on a cluster; on one machine it runs `resources.threads` tasks"
    )
    executor_memory: SizeBytes = Field(
        default=4 * 10**9,
        ge=15 * 10**8,
        description="limit of each executor, at least 1.5GB; on one machine `resources.memory` is that of all",
    )
    image_size: tuple[PositiveInt, PositiveInt] | None = Field(
        default=None, description="height and width; default: the size of the images, if it is one"
    )
