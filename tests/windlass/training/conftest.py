"""Small dataset bundles, as the step prepare writes them, and the request for a short training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import distributed
from torch._C._distributed_c10d import HashStore

from windlass.data.bundle import BundleWriter
from windlass.data.description import (
    DATASET_NAME,
    IMAGE_COLUMN,
    LABEL_COLUMN,
    SPLITS,
    Column,
    DatasetDescription,
    NumberTransform,
    PixelsTransform,
    SplitName,
    TargetTransform,
)
from windlass.models import make_spec
from windlass.training.config import TrainConfig
from windlass.training.documents import TrainRequest
from windlass.training.workers import Workers


def _cut(rows: int) -> dict[SplitName, slice]:
    stops = (0, int(rows * 0.7), int(rows * 0.85), rows)
    return {split: slice(stops[i], stops[i + 1]) for i, split in enumerate(SPLITS)}


def write_digits(directory: Path) -> Path:
    """sklearn's digits as a bundle of images: 1,797 of 8×8×1."""
    import pyarrow as pa

    directory.mkdir(parents=True)
    pixels_ND, labels_N = load_digits(return_X_y=True)
    order_N = np.random.default_rng(0).permutation(len(labels_N))
    pixels_ND, labels_N = (pixels_ND * 255 / 16).round().astype(np.uint8)[order_N], labels_N[order_N]
    schema = pa.schema([(IMAGE_COLUMN, pa.binary(64)), (LABEL_COLUMN, pa.int64())])
    cut = _cut(len(labels_N))
    with BundleWriter(directory, schema) as writer:
        for split, rows in cut.items():
            images = pa.array([row.tobytes() for row in pixels_ND[rows]], pa.binary(64))
            writer.write(split, pa.table([images, pa.array(labels_N[rows])], schema=schema))
    train_ND = pixels_ND[cut["train"]] / 255
    DatasetDescription(
        modality="images",
        target_kind="class",
        target=LABEL_COLUMN,
        columns=(Column(name=LABEL_COLUMN, type="number", role="target"),),
        class_names=tuple("0123456789"),
        image_shape=(8, 8, 1),
        rows=writer.rows,
        class_counts={split: tuple(np.bincount(labels_N[rows], minlength=10).tolist()) for split, rows in cut.items()},
        shards=writer.shards,
        transforms=(PixelsTransform(mean=(float(train_ND.mean()),), std=(float(train_ND.std()),)),),
        fingerprint="digits",
    ).write(directory / DATASET_NAME)
    return directory


def write_numbers(directory: Path, rows: int = 500, width: int = 6) -> Path:
    """A table of numbers whose target is nearly linear in them, 10 times as wide as it is learned."""
    import pyarrow as pa

    directory.mkdir(parents=True)
    generator = np.random.default_rng(0)
    features_ND = generator.normal(size=(rows, width))
    targets_N = 50 + 10 * (features_ND @ generator.normal(size=width)) + generator.normal(size=rows)
    names = [f"x{i}" for i in range(width)]
    table = pa.table({**{name: features_ND[:, i] for i, name in enumerate(names)}, "y": targets_N})
    with BundleWriter(directory, table.schema) as writer:
        for split, part in _cut(rows).items():
            writer.write(split, table.slice(part.start, part.stop - part.start))
    columns = tuple(Column(name=name, type="number", role="feature") for name in names)
    DatasetDescription(
        modality="table",
        target_kind="number",
        target="y",
        columns=(*columns, Column(name="y", type="number", role="target")),
        class_names=None,
        rows=writer.rows,
        class_counts=None,
        shards=writer.shards,
        transforms=tuple(NumberTransform(column=name, mean=0, scale=1, missing_indicator=False) for name in names),
        target_transform=TargetTransform(mean=50.0, scale=float(targets_N.std())),
        fingerprint="numbers",
    ).write(directory / DATASET_NAME)
    return directory


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("data") / "digits")


@pytest.fixture(scope="session")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_numbers(tmp_path_factory.mktemp("data") / "numbers")


@pytest.fixture
def directories(tmp_path: Path) -> Callable[[str], tuple[Path, Path]]:
    """Makes an output and a work directory of this name."""

    def make(name: str) -> tuple[Path, Path]:
        output, work = tmp_path / name / "output", tmp_path / name / "work"
        output.mkdir(parents=True)
        work.mkdir()
        return output, work

    return make


@pytest.fixture(scope="session")
def workers() -> Iterator[Workers]:
    """This process as the only worker, with a real process group, as torchrun's single worker has one."""
    distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield Workers(0, 1, torch.device("cpu"))
    distributed.destroy_process_group()


@pytest.fixture
def make_request(
    digits: Path, numbers: Path, directories: Callable[[str], tuple[Path, Path]]
) -> Callable[..., TrainRequest]:
    """Builds a request on digits or numbers: `make_request("name", task=..., parameters=..., epochs=...)`."""

    def make(
        name: str,
        *,
        task: str = "tabular-regression",
        architecture: str = "mlp",
        parameters: dict[str, Any] | None = None,
        **config: Any,
    ) -> TrainRequest:
        output, work = directories(name)
        images = task == "image-classification"
        return TrainRequest(
            config=TrainConfig.model_validate(config),
            task=task,
            spec=make_spec(
                architecture,
                parameters or {},
                input_shape=(1, 8, 8) if images else (6,),
                num_outputs=10 if images else 1,
            ),
            dataset=digits if images else numbers,
            output=output,
            work=work,
            control=work,
        )

    return make
