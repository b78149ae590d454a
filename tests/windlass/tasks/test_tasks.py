"""What the tasks say of signatures, losses and metrics."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn import metrics

from windlass.data.description import Column, DatasetDescription, NumberTransform, PixelsTransform, TargetTransform
from windlass.tasks import TASKS, UnknownTaskError, get_task
from windlass.variants.signature import ColumnSpec, TensorSpec

ROWS = {"train": 3, "validation": 1, "test": 1}
SHARDS: dict[str, tuple[str, ...]] = {"train": (), "validation": (), "test": ()}


def table(*types: str, class_names: tuple[str, ...] | None = ("no", "yes")) -> DatasetDescription:
    columns = [Column(name=f"c{i}", type=kind, role="feature") for i, kind in enumerate(types)]
    return DatasetDescription.model_validate(
        {
            "modality": "table",
            "target_kind": "class" if class_names else "number",
            "target": "y",
            "columns": [*columns, Column(name="y", type="number", role="target")],
            "class_names": class_names,
            "rows": ROWS,
            "class_counts": None,
            "shards": SHARDS,
            "transforms": [NumberTransform(column="c0", mean=0, scale=1, missing_indicator=True)],
            "target_transform": None if class_names else TargetTransform(mean=5.0, scale=2.0),
            "fingerprint": "0",
        }
    )


def images() -> DatasetDescription:
    return DatasetDescription.model_validate(
        {
            "modality": "images",
            "target_kind": "class",
            "target": "label",
            "columns": [],
            "class_names": ("a", "b", "c"),
            "image_shape": (4, 5, 3),
            "rows": ROWS,
            "class_counts": None,
            "shards": SHARDS,
            "transforms": [PixelsTransform(mean=(0.0,) * 3, std=(1.0,) * 3)],
            "fingerprint": "0",
        }
    )


def test_an_unknown_task_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(UnknownTaskError, match=r"no task 'translation'.*tabular-regression"):
        get_task("translation")


def test_the_tasks_are_imported_without_torch() -> None:
    code = "import sys, windlass.tasks, windlass.models, windlass.training; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", TASKS)
def test_the_main_metric_is_one_of_the_qualities(name: str) -> None:
    task = get_task(name)
    predictions = np.array([[0.2, 0.8], [0.6, 0.4]]) if task.target_kind == "class" else np.array([1.0, 2.0])
    assert task.metric in task.metrics
    assert task.quality(predictions, np.array([0, 1])).keys() == task.metrics.keys()


def test_a_table_of_numbers_is_one_matrix_in_the_order_of_its_columns() -> None:
    signature = get_task("tabular-classification").signature(table("number", "number"))
    assert signature.inputs == (TensorSpec(name="input", dtype="float32", shape=(None, 2)),)
    assert signature.columns == (ColumnSpec(name="c0", type="number"), ColumnSpec(name="c1", type="number"))
    assert signature.outputs == (TensorSpec(name="probabilities", dtype="float32", shape=(None, 2)),)
    assert signature.class_names == ("no", "yes")


def test_a_mixed_table_is_one_tensor_for_each_column() -> None:
    signature = get_task("tabular-regression").signature(table("number", "category", class_names=None))
    assert signature.inputs == (
        TensorSpec(name="c0", dtype="float32", shape=(None,)),
        TensorSpec(name="c1", dtype="string", shape=(None,)),
    )
    assert signature.outputs == (TensorSpec(name="value", dtype="float32", shape=(None,)),)
    assert signature.class_names is None


def test_images_come_in_as_pixels_and_reach_the_network_with_channels_first() -> None:
    task = get_task("image-classification")
    assert task.signature(images()).inputs == (TensorSpec(name="image", dtype="uint8", shape=(None, 4, 5, 3)),)
    assert task.input_shape(images()) == (3, 4, 5)
    assert task.num_outputs(images()) == 3


def test_a_tables_width_counts_its_missing_indicators() -> None:
    assert get_task("tabular-classification").input_shape(table("number")) == (2,)


@pytest.mark.parametrize("num_classes", [2, 4])
def test_classification_metrics_are_those_of_scikit_learn(num_classes: int) -> None:
    generator = np.random.default_rng(0)
    # Rounded, so that there are ties.
    probabilities = generator.dirichlet(np.ones(num_classes), size=200).round(2) + 0.001
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    targets = generator.integers(0, num_classes, 200)
    task = get_task("tabular-classification")
    quality = task.quality(probabilities, targets)
    predicted = probabilities.argmax(axis=1)
    scores = probabilities[:, 1] if num_classes == 2 else probabilities
    one_hot = np.eye(num_classes)[targets][:, 1] if num_classes == 2 else np.eye(num_classes)[targets]
    calibration_error = quality.pop("calibration_error")  # scikit-learn has only its curve: see test_bootstrap.py
    assert 0 < calibration_error < 1
    assert quality == pytest.approx(
        {
            "accuracy": metrics.accuracy_score(targets, predicted),
            "balanced_accuracy": metrics.balanced_accuracy_score(targets, predicted),
            "precision_macro": metrics.precision_score(targets, predicted, average="macro"),
            "recall_macro": metrics.recall_score(targets, predicted, average="macro"),
            "f1_macro": metrics.f1_score(targets, predicted, average="macro"),
            "roc_auc": metrics.roc_auc_score(targets, scores, multi_class="ovr"),
            "pr_auc": metrics.average_precision_score(one_hot, scores),
            "log_loss": metrics.log_loss(targets, probabilities),
            "brier": metrics.brier_score_loss(targets, scores),
        }
    )


def test_log_loss_is_the_mean_surprise_in_nats() -> None:
    quality = get_task("tabular-classification").quality(np.array([[0.5, 0.5], [0.25, 0.75]]), np.array([0, 1]))
    assert quality["log_loss"] == pytest.approx(-(np.log(0.5) + np.log(0.75)) / 2)


def test_impossible_answers_that_come_true_are_dear_and_finite() -> None:
    quality = get_task("tabular-classification").quality(np.array([[0.0, 1.0]], np.float32), np.array([0]))
    assert quality["log_loss"] == pytest.approx(-np.log(np.finfo(float).eps))
    assert quality["brier"] == 1
    assert quality["calibration_error"] == 1


def test_areas_of_a_single_class_are_unknown() -> None:
    quality = get_task("tabular-classification").quality(np.array([[0.5, 0.5]]), np.array([0]))
    assert np.isnan(quality["roc_auc"])
    assert np.isnan(quality["pr_auc"])
    assert quality["accuracy"] == 1.0


def test_class_without_rows_counts_in_no_average_and_one_never_answered_has_precision_0() -> None:
    probabilities = np.array([[0.8, 0.1, 0.1], [0.2, 0.2, 0.6], [0.6, 0.3, 0.1]])
    quality = get_task("tabular-classification").quality(probabilities, np.array([0, 1, 0]))
    assert quality["recall_macro"] == quality["balanced_accuracy"] == 0.5
    assert quality["precision_macro"] == 0.5


def test_regression_metrics_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    targets, predictions = generator.normal(size=50), generator.normal(size=50).astype(np.float32)
    absolute = np.abs(targets - predictions)
    assert get_task("tabular-regression").quality(predictions, targets) == pytest.approx(
        {
            "r2": metrics.r2_score(targets, predictions),
            "mse": metrics.mean_squared_error(targets, predictions),
            "rmse": metrics.root_mean_squared_error(targets, predictions),
            "mae": metrics.mean_absolute_error(targets, predictions),
            "median_ae": metrics.median_absolute_error(targets, predictions),
            "p90_ae": np.quantile(absolute, 0.9),
            "p99_ae": np.quantile(absolute, 0.99),
        }
    )


def test_r2_of_equal_targets_is_unknown() -> None:
    assert np.isnan(get_task("tabular-regression").quality(np.array([1.0, 2.0]), np.array([3.0, 3.0]))["r2"])


@pytest.mark.parametrize("name", TASKS)
def test_metrics_of_an_epoch_are_those_of_the_task(name: str) -> None:
    task, generator = get_task(name), np.random.default_rng(0)
    classes = task.target_kind == "class"
    predictions = generator.dirichlet(np.ones(4), 90).astype(np.float32) if classes else generator.normal(size=90)
    targets = generator.integers(0, 3, 90) if classes else generator.normal(size=90)
    quality, epoch = task.quality(predictions, targets), task.epoch_quality(predictions, targets)
    assert task.metric in epoch
    assert epoch == pytest.approx({metric: quality[metric] for metric in epoch})


def test_losses_are_of_each_example_and_weighted_by_class() -> None:
    outputs, targets = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    task = get_task("image-classification")
    plain = task.loss(outputs, targets, None)
    weighted = task.loss(outputs, targets, torch.tensor([1.0, 2.0, 3.0]))
    assert plain.shape == (4,)
    torch.testing.assert_close(weighted, plain * torch.tensor([1.0, 2.0, 3.0, 1.0]))


def test_the_regression_head_undoes_the_target_transform() -> None:
    head = get_task("tabular-regression").head(table("number", class_names=None))
    assert head(torch.tensor([[0.0], [1.5]])).tolist() == [5.0, 8.0]


def test_the_classification_head_gives_probabilities() -> None:
    probabilities = get_task("tabular-classification").head(table("number"))(torch.tensor([[1.0, 1.0]]))
    assert probabilities.tolist() == [[0.5, 0.5]]
