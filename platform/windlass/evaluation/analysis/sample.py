"""The rows that are looked at closely, and how one of their columns is read and replaced.

Shapes: N rows of the sample, F columns.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from windlass.data.bundle import Bundle
from windlass.data.description import DatasetDescription, SplitName
from windlass.data.features import MATRIX_INPUT, serving_inputs, targets
from windlass.evaluation.errors import EmptySplitError

if TYPE_CHECKING:
    import pyarrow as pa

Array = np.ndarray[Any, np.dtype[Any]]
Inputs = Mapping[str, Array]

_SEED = 20240229
_READ_ROWS = 4096
_MAX_PIXEL_BYTES = 64_000_000
_REFERENCE_ROWS = 20_000


def generator(*name: object) -> np.random.Generator:
    """Random numbers of their own for each thing that is drawn, so that one more column changes no other figure."""
    return np.random.default_rng([_SEED, zlib.crc32(repr(name).encode())])


@dataclass(frozen=True)
class Sample:
    """Some rows of a split.

    Attributes:
        positions: where they stand in the split, ascending.
        table: the rows as the bundle holds them.
        inputs: the same as the engine takes them.
        targets: class indices, or numbers in their own unit.
    """

    description: DatasetDescription
    split: SplitName
    positions: Array
    table: pa.Table
    inputs: Inputs
    targets: Array

    def __len__(self) -> int:
        return len(self.targets)

    def column(self, name: str) -> Array:
        """A feature as the engine takes it: float32 [N] with NaN, or object [N] of str with ''."""
        if self._is_matrix:
            return self.inputs[MATRIX_INPUT][:, self._names.index(name)]
        return self.inputs[name]

    def with_columns(self, columns: Mapping[str, Array]) -> Inputs:
        """The inputs with some features replaced."""
        if not self._is_matrix:
            return {**self.inputs, **columns}
        matrix_NF = self.inputs[MATRIX_INPUT].copy()
        for name, values_N in columns.items():
            matrix_NF[:, self._names.index(name)] = values_N
        return {MATRIX_INPUT: matrix_NF}

    def head(self, rows: int) -> Sample:
        """Its first rows."""
        return Sample(
            description=self.description,
            split=self.split,
            positions=self.positions[:rows],
            table=self.table.slice(0, rows),
            inputs={name: tensor[:rows] for name, tensor in self.inputs.items()},
            targets=self.targets[:rows],
        )

    @property
    def _is_matrix(self) -> bool:
        return MATRIX_INPUT in self.inputs and all(column.type == "number" for column in self.description.features)

    @property
    def _names(self) -> list[str]:
        return [column.name for column in self.description.features]


def read_sample(bundle: Bundle, split: SplitName, rows: int) -> Sample:
    """At most `rows` rows of a split, drawn with a fixed seed; of images, at most 64 MB of pixels.

    Raises:
        EmptySplitError: the split has none.
    """
    description = bundle.description
    if not description.rows[split]:
        raise EmptySplitError(split)
    if description.image_shape is not None:
        rows = min(rows, max(1, _MAX_PIXEL_BYTES // int(np.prod(description.image_shape))))
    positions_N = _drawn(description.rows[split], rows, split)
    table = _take(bundle, split, positions_N)
    return Sample(
        description=description,
        split=split,
        positions=positions_N,
        table=table,
        inputs=serving_inputs(description, table),
        targets=targets(description, table),
    )


def read_reference(bundle: Bundle) -> pa.Table:
    """Rows of train that say what is usual: the ranges and quantiles of a table's columns. At most 20,000."""
    return _take(bundle, "train", _drawn(bundle.description.rows["train"], _REFERENCE_ROWS, "train"))


def _drawn(available: int, rows: int, split: SplitName) -> Array:
    if available <= rows:
        return np.arange(available)
    return np.sort(generator("sample", split).choice(available, rows, replace=False))


def _take(bundle: Bundle, split: SplitName, positions_N: Array) -> pa.Table:
    import pyarrow as pa

    start, parts = 0, []
    for batch in bundle.batches(split, _READ_ROWS):
        first, last = np.searchsorted(positions_N, [start, start + batch.num_rows])
        parts.append(batch.take(pa.array(positions_N[first:last] - start)))
        start += batch.num_rows
    return pa.Table.from_batches(parts).combine_chunks()
