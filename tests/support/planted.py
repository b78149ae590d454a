"""Data and models whose weaknesses are planted, for the tests of what finds them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from windlass.data.bundle import Bundle, BundleWriter
from windlass.data.config import ColumnType
from windlass.data.description import (
    DATASET_NAME,
    CategoryTransform,
    Column,
    DatasetDescription,
    NumberTransform,
    PixelsTransform,
    SplitName,
    Transform,
)
from windlass.evaluation.analysis.sample import read_sample
from windlass.evaluation.analysis.subject import Subject
from windlass.evaluation.analysis.time_limit import TimeLimit
from windlass.evaluation.config import EvaluateConfig
from windlass.progress import track
from windlass.tasks import get_task
from windlass.variants.signature import Signature

Array = np.ndarray[Any, np.dtype[Any]]
Answer = Callable[[Mapping[str, Array]], Array]
CONFIG = EvaluateConfig(bootstrap=300)
ROWS: dict[SplitName, int] = {"train": 1000, "validation": 2000, "test": 100}


class PlantedEngine:
    """An engine whose model is a Python function, so that what is wrong with it is known."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    @property
    def signature(self) -> Signature:
        raise NotImplementedError

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {"answer": self._answer(inputs)}


def probabilities(chosen: Array, classes: int = 2) -> Array:
    """float32 [N, C], sure of the chosen class."""
    return np.eye(classes, dtype=np.float32)[chosen.astype(int)] * 0.9 + 0.1 / classes


def write_table(
    directory: Path,
    table: pa.Table,
    *,
    types: dict[str, ColumnType],
    classes: tuple[str, ...] | None,
    carried: tuple[str, ...] = (),
) -> Bundle:
    """A bundle whose splits all begin with the table's rows."""
    directory.mkdir()
    with BundleWriter(directory, table.schema) as writer:
        for split, rows in ROWS.items():
            writer.write(split, table.slice(0, rows))
    transforms: list[Transform] = []
    for name, kind in types.items():
        if name in carried:
            continue
        values = table[name].drop_null().to_pylist()
        transforms.append(
            NumberTransform(column=name, mean=0, scale=float(np.std(values)), missing_indicator=False)
            if kind == "number"
            else CategoryTransform(column=name, vocabulary=tuple(sorted(set(values))), other=False)
        )
    columns = [
        Column(name=name, type=kind, role="carried" if name in carried else "feature") for name, kind in types.items()
    ]
    DatasetDescription(
        modality="table",
        target_kind="number" if classes is None else "class",
        target="y",
        columns=(*columns, Column(name="y", type="number" if classes is None else "category", role="target")),
        class_names=classes,
        rows=writer.rows,
        class_counts=None,
        shards=writer.shards,
        transforms=tuple(transforms),
        fingerprint="0" * 64,
    ).write(directory / DATASET_NAME)
    return Bundle.open(directory)


def write_images(directory: Path, images: Array, labels: Array, classes: tuple[str, ...]) -> Bundle:
    """A bundle whose splits all hold these uint8 [N, H, W, C]."""
    directory.mkdir()
    shape = images.shape[1:]
    pixels = pa.array([image.tobytes() for image in images], pa.binary(int(np.prod(shape))))
    table = pa.table({"image": pixels, "label": labels.astype(np.int64)})
    with BundleWriter(directory, table.schema) as writer:
        for split in ROWS:
            writer.write(split, table)
    DatasetDescription(
        modality="images",
        target_kind="class",
        target="label",
        columns=(),
        class_names=classes,
        image_shape=shape,
        rows=writer.rows,
        class_counts=None,
        shards=writer.shards,
        transforms=(PixelsTransform(mean=(0.5,) * shape[2], std=(0.25,) * shape[2]),),
        fingerprint="0" * 64,
    ).write(directory / DATASET_NAME)
    return Bundle.open(directory)


def make_subject(
    bundle: Bundle, task: str, *, rows: int = 2000, max_time_s: float = math.inf, **answers: Answer
) -> Subject:
    """Rows of validation, answered by Python functions."""
    engines = {name: PlantedEngine(answer) for name, answer in answers.items()}
    limit, sample = TimeLimit(max_time_s), read_sample(bundle, "validation", rows)
    with track("test", unit="rows") as bar:
        return Subject(get_task(task), sample, engines, CONFIG, bar, limit)
