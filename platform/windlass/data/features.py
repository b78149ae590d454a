"""From rows of a bundle to the numbers that a network learns from, and to what a caller would send."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from windlass.data.bundle import Bundle
from windlass.data.description import (
    IMAGE_COLUMN,
    LABEL_COLUMN,
    CategoryTransform,
    DatasetDescription,
    NumberTransform,
    SplitName,
    Transform,
)

if TYPE_CHECKING:
    import pyarrow as pa

MATRIX_INPUT = "input"
IMAGE_INPUT = "image"
_ENCODE_ROWS = 65_536


@dataclass(frozen=True)
class Encoded:
    """One split as whole arrays.

    Attributes:
        features: float32 [N, D] of a table; uint8 [N, H, W, C] of images, scaled by the network itself.
        targets: int64 [N] class indices, or float32 [N] with the target transform applied.
    """

    features: NDArray[Any]
    targets: NDArray[Any]


def feature_width(description: DatasetDescription) -> int:
    """D: how many numbers a table's row becomes."""
    return sum(transform_width(transform) for transform in description.transforms)


def transform_width(transform: Transform) -> int:
    """How many numbers of a row's features come from it."""
    if isinstance(transform, NumberTransform):
        return 1 + transform.missing_indicator
    if isinstance(transform, CategoryTransform):
        return len(transform.vocabulary) + transform.other
    return 0


def encode(bundle: Bundle, split: SplitName) -> Encoded:
    """Read a split and apply the declared transforms in their order, as the served graph does, in float32."""
    description = bundle.description
    rows = description.rows[split]
    if description.modality == "images":
        assert description.image_shape is not None
        features = np.empty((rows, *description.image_shape), np.uint8)
    else:
        features = np.empty((rows, feature_width(description)), np.float32)
    regression = description.target_kind == "number"
    targets_N = np.empty(rows, np.float32 if regression else np.int64)
    start = 0
    for batch in bundle.batches(split, _ENCODE_ROWS):
        rows_here = slice(start, start + batch.num_rows)
        features[rows_here] = encode_batch(description, batch)
        targets_N[rows_here] = learned_targets(description, targets(description, batch))
        start += batch.num_rows
    return Encoded(features, targets_N)


def encode_batch(description: DatasetDescription, batch: pa.RecordBatch | pa.Table) -> NDArray[Any]:
    """The features of some rows: float32 [B, D], or uint8 [B, H, W, C]."""
    if description.modality == "images":
        return _images(description, batch)
    features_BD = np.empty((batch.num_rows, feature_width(description)), np.float32)
    start = 0
    for transform in description.transforms:
        stop = start + transform_width(transform)
        if isinstance(transform, NumberTransform):
            _encode_number(transform, _numbers(batch, transform.column), features_BD[:, start:stop])
        elif isinstance(transform, CategoryTransform):
            features_BD[:, start:stop] = _encode_category(transform, _category_array(batch, transform.column))
        start = stop
    return features_BD


def targets(description: DatasetDescription, batch: pa.RecordBatch | pa.Table) -> NDArray[Any]:
    """What is to be predicted: int64 [B] class indices, or float64 [B] numbers in their own unit."""
    name = LABEL_COLUMN if description.modality == "images" else description.target
    column = _array(batch, name)
    dtype = np.int64 if description.target_kind == "class" else np.float64
    return np.asarray(_values(column), dtype)


def learned_targets(description: DatasetDescription, values_B: NDArray[Any]) -> NDArray[Any]:
    """Targets as they are learned: class indices, or float32 numbers with the target transform applied."""
    transform = description.target_transform
    if transform is None:
        return values_B
    return np.asarray((values_B - transform.mean) / transform.scale, np.float32)


def serving_inputs(description: DatasetDescription, batch: pa.RecordBatch | pa.Table) -> dict[str, NDArray[Any]]:
    """Rows as the signature's tensors: a missing number is NaN, a missing category the empty string."""
    if description.modality == "images":
        return {IMAGE_INPUT: _images(description, batch)}
    if all(column.type == "number" for column in description.features):
        columns = [_numbers(batch, column.name) for column in description.features]
        return {MATRIX_INPUT: np.stack(columns, axis=1)}
    return {
        column.name: _numbers(batch, column.name) if column.type == "number" else _strings(batch, column.name)
        for column in description.features
    }


def serving_rows(description: DatasetDescription, batch: pa.RecordBatch | pa.Table) -> list[Any]:
    """Rows as a caller of the gateway sends them.

    Returns:
        Lists in column order for a table of numbers, objects by column name for any other table, nested lists
        [H][W][C] of images; a missing value is None.
    """
    if description.modality == "images":
        images: list[Any] = _images(description, batch).tolist()
        return images
    names = [column.name for column in description.features]
    columns = [_array(batch, name).to_pylist() for name in names]
    rows = zip(*columns, strict=True)
    if all(column.type == "number" for column in description.features):
        return [list(row) for row in rows]
    return [dict(zip(names, row, strict=True)) for row in rows]


def _encode_number(transform: NumberTransform, values_B: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    missing_B = np.isnan(values_B)
    scaled_B = (values_B - np.float32(transform.mean)) / np.float32(transform.scale)
    out[:, 0] = np.where(missing_B, np.float32(0), scaled_B)
    if transform.missing_indicator:
        out[:, 1] = missing_B


def _encode_category(transform: CategoryTransform, values: Any) -> NDArray[np.float32]:
    import pyarrow as pa
    import pyarrow.compute as pc

    width = transform_width(transform)
    one_hot_BV = np.zeros((len(values), width), np.float32)
    found = pc.index_in(values, value_set=pa.array(transform.vocabulary, pa.string()))
    index_B = found.fill_null(len(transform.vocabulary)).to_numpy(zero_copy_only=False)
    rows_B = np.flatnonzero(index_B < width)
    one_hot_BV[rows_B, index_B[rows_B]] = 1
    return one_hot_BV


def _array(batch: pa.RecordBatch | pa.Table, name: str) -> Any:
    import pyarrow as pa

    column = batch.column(name)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _numbers(batch: pa.RecordBatch | pa.Table, name: str) -> NDArray[np.float32]:
    return np.asarray(_values(_array(batch, name)), np.float64).astype(np.float32)


def _values(column: Any) -> NDArray[Any]:
    """Numbers, NaN where one is missing. Whole columns are taken as they lie: `to_numpy` imports pandas, 0.2 s."""
    return column.to_numpy(zero_copy_only=False) if column.null_count else np.from_dlpack(column)


def _category_array(batch: pa.RecordBatch | pa.Table, name: str) -> Any:
    return _array(batch, name).fill_null("")


def _strings(batch: pa.RecordBatch | pa.Table, name: str) -> NDArray[np.object_]:
    return np.asarray(_category_array(batch, name).to_pylist(), dtype=object)


def _images(description: DatasetDescription, batch: pa.RecordBatch | pa.Table) -> NDArray[np.uint8]:
    assert description.image_shape is not None
    column = _array(batch, IMAGE_COLUMN)
    size = int(np.prod(description.image_shape))
    data = np.frombuffer(column.buffers()[-1], np.uint8, count=size * len(column), offset=column.offset * size)
    return data.reshape(len(column), *description.image_shape)
