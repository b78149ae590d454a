"""What the data look like: pictures of each class, or the first rows beside the columns' types."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from windlass.data.bundle import Bundle
from windlass.data.description import (
    IMAGE_COLUMN,
    LABEL_COLUMN,
    CategoryTransform,
    DatasetDescription,
    NumberTransform,
    SplitName,
)
from windlass.evaluation.report.text import NONE, plural

_ROWS = 5
_CLASSES = 40
_FEW_CLASSES = 8
"""So many get six pictures each, more of them three."""
_SIDE_PIXELS = 96
_SEARCHED_ROWS = 4096
_TEXT_LENGTH = 40


@dataclass(frozen=True)
class Picture:
    class_name: str
    uri: str


@dataclass(frozen=True)
class ShownColumn:
    """One column: how it is typed, how it becomes numbers, and its first values in train."""

    name: str
    type: str
    role: str
    becomes: str
    values: tuple[str, ...]


def pictures(directory: Path) -> list[Picture]:
    """A few rows of train of each class, as PNG inside the page; none for tables."""
    bundle = Bundle.open(directory)
    description = bundle.description
    if description.image_shape is None or description.class_names is None:
        return []
    classes = min(len(description.class_names), _CLASSES)
    wanted = 6 if classes <= _FEW_CLASSES else 3
    found: dict[int, list[Picture]] = {index: [] for index in range(classes)}
    for label, pixels in _first_images(bundle):
        if label in found and len(found[label]) < wanted:
            found[label].append(Picture(description.class_names[label], _png(pixels, description.image_shape)))
    return [picture for row in found.values() for picture in row]


def _first_images(bundle: Bundle) -> Sequence[tuple[int, bytes]]:
    rows: list[tuple[int, bytes]] = []
    for batch in bundle.batches(shown_split(bundle.description), 512, [IMAGE_COLUMN, LABEL_COLUMN]):
        rows += zip(batch[LABEL_COLUMN].to_pylist(), batch[IMAGE_COLUMN].to_pylist(), strict=True)
        if len(rows) >= _SEARCHED_ROWS:
            break
    return rows


def shown_split(description: DatasetDescription) -> SplitName:
    """Whose rows are shown: train's, or what there is where a registered version is measured on other rows."""
    return "train" if description.rows["train"] else "test"


def _png(pixels: bytes, shape: tuple[int, int, int]) -> str:
    from PIL import Image

    height, width, channels = shape
    image_HWC = np.frombuffer(pixels, np.uint8).reshape(height, width, channels)
    image = Image.fromarray(image_HWC[..., 0] if channels == 1 else image_HWC)
    image.thumbnail((_SIDE_PIXELS, _SIDE_PIXELS))
    return png_uri(image)


def png_uri(image: Any) -> str:
    with io.BytesIO() as buffer:
        image.save(buffer, "PNG", optimize=True)
        return data_uri(buffer.getvalue())


def data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def columns(directory: Path) -> list[ShownColumn]:
    """The kept columns of a table, features first; none for images."""
    bundle = Bundle.open(directory)
    description = bundle.description
    if description.modality != "table":
        return []
    first: dict[str, list[Any]] = {}
    for batch in bundle.batches(shown_split(bundle.description), _ROWS):
        first = batch.slice(0, _ROWS).to_pydict()
        break
    becomes = _becomes(description)
    names = description.class_names
    shown = []
    for column in sorted(description.columns, key=lambda column: column.role == "target"):
        values = first.get(column.name, [])
        if column.role == "target" and names is not None:
            values = [names[value] for value in values]
        texts = tuple(_text(value) for value in values)
        shown.append(ShownColumn(column.name, column.type, column.role, becomes.get(column.name, ""), texts))
    return shown


def _becomes(description: DatasetDescription) -> dict[str, str]:
    told: dict[str, str] = {}
    for transform in description.transforms:
        if isinstance(transform, NumberTransform):
            missing = ", and whether it is missing" if transform.missing_indicator else ""
            told[transform.column] = f"{_scaled('x', transform.mean, transform.scale)}{missing}"
        elif isinstance(transform, CategoryTransform):
            other = ", and any other" if transform.other else ""
            told[transform.column] = f"one of {plural(len(transform.vocabulary), 'value')}{other}"
    if description.target_transform is not None:
        target = description.target_transform
        told[description.target] = f"{_scaled('y', target.mean, target.scale)}, undone in the answer"
    return told


def _scaled(name: str, mean: float, scale: float) -> str:
    return f"({name} {'+' if mean < 0 else '−'} {_text(float(f'{abs(mean):.4g}'))}) / {_text(float(f'{scale:.4g}'))}"


def _text(value: object) -> str:
    if value is None:
        return NONE
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1e5 else f"{value:,.6g}"
    text = str(value)
    return text if len(text) <= _TEXT_LENGTH else f"{text[:_TEXT_LENGTH]}…"
