"""Groups of rows by the values of a column: categories by value, numbers cut at quantiles.

Shapes: N rows of the sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from windlass.data.description import Column
from windlass.data.features import IMAGE_INPUT
from windlass.evaluation.analysis.documents import Condition
from windlass.evaluation.analysis.sample import Array, Sample

_QUANTILES = (0.25, 0.5, 0.75)
_MAX_VALUES = 50
"""Categories looked at in one column: the most frequent ones."""
_FEW_NUMBERS = 6
"""A column of at most so many different numbers is cut between them."""


@dataclass(frozen=True)
class Group:
    """The rows for which a condition holds: bool [N]."""

    condition: Condition
    mask: Array


def groups_of_table(sample: Sample, reference: pa.Table) -> list[Group]:
    """By every column but the target.

    Args:
        reference: rows of train, whose quantiles cut the numbers.
    """
    columns = [column for column in sample.description.columns if column.role != "target"]
    return [group for column in columns for group in groups_of_column(sample.table, column, reference)]


def groups_of_column(table: pa.Table, column: Column, reference: pa.Table) -> Iterator[Group]:
    """The groups of one column; where values are missing, they are the last one."""
    values = table.column(column.name)
    if column.type == "number":
        cuts = _cuts(reference.column(column.name).drop_null().to_numpy())
        numbers_N = np.asarray(values.to_numpy(zero_copy_only=False), np.float64)
        yield from _ranges(column.name, numbers_N, cuts)
        missing_N = np.isnan(numbers_N)
    else:
        texts_N = np.array(["" if value is None else value for value in values.to_pylist()], dtype=object)
        missing_N = texts_N == ""
        found, counts = np.unique(texts_N[~missing_N], return_counts=True)
        for value in sorted(found[np.argsort(-counts, kind="stable")][:_MAX_VALUES]):
            yield Group(Condition(column=column.name, value=value), texts_N == value)
    if missing_N.any():
        yield Group(Condition(column=column.name), missing_N)


def groups_of_images(sample: Sample) -> list[Group]:
    """By class, and by brightness and contrast: mean and standard deviation of a picture's grey levels."""
    names = sample.description.class_names
    assert names is not None
    groups = [Group(Condition(column="class", value=n), sample.targets == i) for i, n in enumerate(names)]
    pixels_NP = sample.inputs[IMAGE_INPUT].reshape(len(sample), -1)
    brightness_N = pixels_NP.mean(axis=1, dtype=np.float64)
    contrast_N = np.sqrt(np.array([np.square(row, dtype=np.float64).mean() for row in pixels_NP]) - brightness_N**2)
    for name, values_N in (("brightness", brightness_N), ("contrast", contrast_N)):
        groups += _ranges(name, values_N, np.unique(np.quantile(values_N, _QUANTILES)))
    return groups


def _cuts(values: Array) -> Array:
    """Where a column of numbers is cut: at quantiles, or midway between few different numbers."""
    levels = np.unique(values)
    if len(levels) <= _FEW_NUMBERS:
        middles: Array = (levels[1:] + levels[:-1]) / 2
        return middles
    return np.unique(np.quantile(values, _QUANTILES))


def _ranges(column: str, values_N: Array, cuts: Array) -> Iterator[Group]:
    """From cut to cut, the outer ranges without bound; without cuts there is nothing to tell apart."""
    if not len(cuts):
        return
    bounds: Sequence[float | None] = [None, *cuts.tolist(), None]
    bin_N = np.searchsorted(cuts, values_N, side="right")
    for index in range(len(cuts) + 1):
        condition = Condition(column=column, low=bounds[index], high=bounds[index + 1])
        yield Group(condition, (bin_N == index) & ~np.isnan(values_N))
