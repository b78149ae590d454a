from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from windlass.data.bundle import BundleWriter
from windlass.data.config import ColumnType
from windlass.data.description import (
    DATASET_NAME,
    CategoryTransform,
    Column,
    DatasetDescription,
    NumberTransform,
    PixelsTransform,
    SplitName,
    TargetTransform,
    Transform,
)
from windlass.models import build as build_network
from windlass.models import make_spec, save
from windlass.tasks import get_task

ROWS: dict[SplitName, int] = {"train": 300, "validation": 60, "test": 60}
CLASSES = ("a", "b", "c")


def _write(directory: Path, tables: dict[SplitName, pa.Table], **fields: Any) -> Path:
    directory.mkdir()
    with BundleWriter(directory, tables["train"].schema) as writer:
        for split, table in tables.items():
            writer.write(split, table)
    DatasetDescription(rows=writer.rows, shards=writer.shards, class_counts=None, fingerprint="0" * 64, **fields).write(
        directory / DATASET_NAME
    )
    return directory


def _table_fields(types: dict[str, ColumnType], target_kind: str, transforms: tuple[Transform, ...]) -> dict[str, Any]:
    columns = [Column(name=name, type=kind, role="feature") for name, kind in types.items()]
    columns.append(Column(name="target", type="number" if target_kind == "number" else "category", role="target"))
    return {
        "modality": "table",
        "target_kind": target_kind,
        "target": "target",
        "columns": tuple(columns),
        "class_names": CLASSES if target_kind == "class" else None,
        "transforms": transforms,
    }


@pytest.fixture
def numbers_bundle(tmp_path: Path) -> Path:
    """A regression on three numbers, the second one with missing values, far from zero."""
    rng = np.random.default_rng(0)
    tables: dict[SplitName, pa.Table] = {}
    for split, count in ROWS.items():
        values = rng.normal(size=(count, 3)) * [1, 10, 100] + [0, 2000, -5]
        masked = rng.random(count) < 0.2
        tables[split] = pa.table(
            {
                "x": values[:, 0],
                "year": pa.array(values[:, 1], mask=masked),
                "z": values[:, 2],
                "target": 3 * values[:, 0] - 0.1 * values[:, 2] + 7,
            }
        )
    transforms: tuple[Transform, ...] = (
        NumberTransform(column="x", mean=0.1, scale=1.1, missing_indicator=False),
        NumberTransform(column="year", mean=2000.3, scale=9.7, missing_indicator=True),
        NumberTransform(column="z", mean=-5, scale=101, missing_indicator=False),
    )
    fields = _table_fields({"x": "number", "year": "number", "z": "number"}, "number", transforms)
    return _write(tmp_path / "numbers", tables, target_transform=TargetTransform(mean=7, scale=11), **fields)


@pytest.fixture
def mixed_bundle(tmp_path: Path) -> Path:
    """Three classes from a number and two categories, with missing and never-seen values in every split."""
    rng = np.random.default_rng(1)
    tables: dict[SplitName, pa.Table] = {}
    for split, count in ROWS.items():
        city = rng.choice(["Ulm", "Köln", "Bonn", "Rome"], count)
        size = rng.choice(["S", "M", ""], count)
        age = rng.normal(40, 12, count)
        target = np.where(city == "Ulm", 0, np.where(age > 40, 1, 2))
        tables[split] = pa.table(
            {
                "city": pa.array(city, mask=rng.random(count) < 0.1),
                "age": pa.array(age, mask=rng.random(count) < 0.1),
                "size": pa.array(size),
                "target": target.astype(np.int64),
            }
        )
    transforms: tuple[Transform, ...] = (
        CategoryTransform(column="city", vocabulary=("Bonn", "Köln", "Ulm"), other=True),
        NumberTransform(column="age", mean=40, scale=12, missing_indicator=True),
        CategoryTransform(column="size", vocabulary=("M", "S"), other=False),
    )
    fields = _table_fields({"city": "category", "age": "number", "size": "category"}, "class", transforms)
    return _write(tmp_path / "mixed", tables, **fields)


@pytest.fixture
def images_bundle(tmp_path: Path) -> Path:
    """Images 8x8 in color of three classes, told apart by their brightest channel."""
    rng = np.random.default_rng(2)
    tables: dict[SplitName, pa.Table] = {}
    for split, count in ROWS.items():
        labels = rng.integers(0, 3, count)
        images = rng.integers(0, 120, (count, 8, 8, 3))
        images[np.arange(count), :, :, labels] += 100
        pixels = pa.array([image.tobytes() for image in images.astype(np.uint8)], pa.binary(8 * 8 * 3))
        tables[split] = pa.table({"image": pixels, "label": labels.astype(np.int64)})
    return _write(
        tmp_path / "images",
        tables,
        modality="images",
        target_kind="class",
        target="label",
        columns=(),
        class_names=CLASSES,
        image_shape=(8, 8, 3),
        transforms=(PixelsTransform(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25)),),
    )


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Path]:
    """Save an untrained network for a bundle: make_model(task, bundle, architecture, **parameters)."""

    def make(task_name: str, bundle: Path, architecture: str, **parameters: Any) -> Path:
        import torch

        torch.manual_seed(3)
        task, description = get_task(task_name), DatasetDescription.read(bundle / DATASET_NAME)
        spec = make_spec(
            architecture,
            parameters,
            input_shape=task.input_shape(description),
            num_outputs=task.num_outputs(description),
        )
        directory = tmp_path / f"model-{architecture}"
        directory.mkdir()
        save(directory, spec, build_network(spec))
        return directory

    return make
