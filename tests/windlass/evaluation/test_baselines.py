from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.linear_model import LinearRegression

from windlass.data.bundle import Bundle, BundleWriter
from windlass.data.description import (
    DATASET_NAME,
    IMAGE_COLUMN,
    LABEL_COLUMN,
    Column,
    DatasetDescription,
    NumberTransform,
    PixelsTransform,
    SplitName,
)
from windlass.data.features import targets
from windlass.evaluation.baselines import BaselineAnswers, measure_baselines, read_baselines

COUNTS: dict[SplitName, int] = {"train": 300, "validation": 90, "test": 30}


def write(directory: Path, tables: dict[SplitName, pa.Table], **description: object) -> Path:
    directory.mkdir()
    with BundleWriter(directory, tables["train"].schema) as writer:
        for split, table in tables.items():
            writer.write(split, table)
    common = {"rows": writer.rows, "shards": writer.shards, "class_counts": None, "fingerprint": "0" * 64}
    DatasetDescription.model_validate(common | description).write(directory / DATASET_NAME)
    return directory


def answered(bundle: Path, output: Path, task: str) -> dict[str, BaselineAnswers]:
    output.mkdir()
    measure_baselines(bundle, output, task=task, split="validation")
    return {answers.name: answers for answers in read_baselines(output)}


def test_a_class_is_answered_by_the_shares_of_train_and_by_a_linear_model(bundle: Path, tmp_path: Path) -> None:
    found = answered(bundle, tmp_path / "out", "tabular-classification")
    opened = Bundle.open(bundle)
    train, wanted = (targets(opened.description, opened.table(split)) for split in ("train", "validation"))
    shares = np.bincount(train, minlength=3) / len(train)
    np.testing.assert_allclose(found["majority"].predictions, np.tile(shares, (80, 1)), rtol=1e-6)
    linear = found["linear"].predictions
    assert linear.shape == (80, 3)
    np.testing.assert_allclose(linear.sum(axis=1), 1, rtol=1e-5)
    assert (linear.argmax(axis=1) == wanted).mean() > 0.5 + (shares.max() == 1)
    assert (found["majority"].train_rows, found["linear"].train_rows) == (100, 100)


def test_a_number_is_answered_by_the_mean_of_train_and_by_a_linear_model(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tables: dict[SplitName, pa.Table] = {}
    for split, count in COUNTS.items():
        x = rng.normal(3, 2, count)
        tables[split] = pa.table({"x": x, "y": 5 * x + rng.normal(size=count)})
    bundle = write(
        tmp_path / "numbers",
        tables,
        modality="table",
        target_kind="number",
        target="y",
        class_names=None,
        columns=(Column(name="x", type="number", role="feature"), Column(name="y", type="number", role="target")),
        transforms=(NumberTransform(column="x", mean=3, scale=2, missing_indicator=False),),
    )
    found = answered(bundle, tmp_path / "out", "tabular-regression")
    train, rows = tables["train"], tables["validation"]
    assert found["mean"].predictions == pytest.approx(np.full(90, train["y"].to_numpy().mean()))
    exact = LinearRegression().fit(train["x"].to_numpy()[:, None], train["y"].to_numpy())
    np.testing.assert_allclose(found["linear"].predictions, exact.predict(rows["x"].to_numpy()[:, None]), atol=0.2)


def images(tmp_path: Path, side: int, present: int) -> Path:
    """Three classes, of which `present` have images: bright in another corner each."""
    rng = np.random.default_rng(0)
    tables: dict[SplitName, pa.Table] = {}
    for split, count in COUNTS.items():
        labels = np.arange(count) % present
        pixels = rng.integers(0, 60, (count, side, side, 1), np.uint8)
        half = side // 2
        for label, (top, left) in enumerate([(0, 0), (0, half), (half, 0)]):
            pixels[labels == label, top : top + half, left : left + half] += 120
        stored = pa.array([image.tobytes() for image in pixels], pa.binary(side * side))
        tables[split] = pa.table({IMAGE_COLUMN: stored, LABEL_COLUMN: labels.astype(np.int64)})
    return write(
        tmp_path / "images",
        tables,
        modality="images",
        target_kind="class",
        target="label",
        columns=(),
        class_names=("a", "b", "c"),
        image_shape=(side, side, 1),
        transforms=(PixelsTransform(mean=(0.5,), std=(0.5,)),),
    )


@pytest.mark.parametrize("side", [8, 70])
def test_images_of_any_size_have_a_linear_model(tmp_path: Path, side: int) -> None:
    found = answered(images(tmp_path, side, present=3), tmp_path / "out", "image-classification")
    assert (found["linear"].predictions.argmax(axis=1) == np.arange(90) % 3).mean() > 0.95


@pytest.mark.parametrize("present", [1, 2])
def test_a_class_without_rows_of_train_is_never_answered(tmp_path: Path, present: int) -> None:
    found = answered(images(tmp_path, 8, present), tmp_path / "out", "image-classification")
    for answers in found.values():
        assert answers.predictions.shape == (90, 3)
        assert (answers.predictions[:, present:] == 0).all()
        np.testing.assert_allclose(answers.predictions.sum(axis=1), 1, rtol=1e-5)


def test_the_linear_model_takes_a_bounded_sample_of_train(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("windlass.evaluation.baselines._MAX_TRAIN_ROWS", 50)
    found = answered(bundle, tmp_path / "out", "tabular-classification")
    assert (found["majority"].train_rows, found["linear"].train_rows) == (100, 50)
