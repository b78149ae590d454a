from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from windlass.evaluation.bootstrap import Bootstrap, resampled_quality
from windlass.evaluation.config import EvaluateConfig
from windlass.evaluation.errors import UndefinedMetricError
from windlass.evaluation.quality import mistakes, quality_with_intervals
from windlass.tasks import get_task

CLASSES, NUMBERS = get_task("tabular-classification"), get_task("tabular-regression")
CONFIG = EvaluateConfig(bootstrap=400)


def classification(rows: int, classes: int, seed: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, rows)
    logits = rng.normal(size=(rows, classes)) + 1.2 * np.eye(classes)[targets]
    exponents = np.exp(np.round(logits, 1))  # rounded, so that scores tie
    return (exponents / exponents.sum(axis=1, keepdims=True)).astype(np.float32), targets


def sklearn_quality(predictions: np.ndarray[Any, Any], targets: np.ndarray[Any, Any]) -> dict[str, float]:
    predicted, exact = predictions.argmax(axis=1), predictions.astype(float)
    exact /= exact.sum(axis=1, keepdims=True)
    binary = predictions.shape[1] == 2
    return {
        "accuracy": metrics.accuracy_score(targets, predicted),
        "balanced_accuracy": metrics.balanced_accuracy_score(targets, predicted),
        "f1_macro": metrics.f1_score(targets, predicted, average="macro"),
        "roc_auc": metrics.roc_auc_score(targets, exact[:, 1] if binary else exact, multi_class="ovr"),
        "log_loss": metrics.log_loss(targets, exact),
    }


@pytest.mark.parametrize("classes", [2, 5])
def test_metrics_of_classes_and_of_each_resample_are_those_of_scikit_learn(classes: int) -> None:
    predictions, targets = classification(150, classes)
    found = quality_with_intervals(CLASSES, predictions, targets, CONFIG)
    for name, wanted in sklearn_quality(predictions, targets).items():
        assert found[name].point == pytest.approx(wanted, abs=1e-6)
        assert found[name].low < wanted < found[name].high

    bootstrap = Bootstrap(150, CONFIG)
    samples = resampled_quality(predictions, targets, bootstrap)
    for resample in range(3):
        rows = np.repeat(np.arange(150), bootstrap._counts_RG[resample].astype(int))
        for name, wanted in sklearn_quality(predictions[rows], targets[rows]).items():
            assert samples[name][resample] == pytest.approx(wanted, abs=1e-6)


def test_metrics_of_numbers_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    targets = rng.normal(1000, 5, 300)
    predictions = (targets + rng.normal(0, 2, 300)).astype(np.float32)
    found = quality_with_intervals(NUMBERS, predictions, targets, CONFIG)
    wanted = {
        "r2": metrics.r2_score(targets, predictions),
        "mae": metrics.mean_absolute_error(targets, predictions),
        "rmse": metrics.root_mean_squared_error(targets, predictions),
    }
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].point == pytest.approx(value, rel=1e-6)
        assert found[name].low < value < found[name].high


def test_interval_of_accuracy_has_the_width_that_theory_gives_with_few_rows_and_with_many() -> None:
    for rows in (400, 40_000):
        predictions, targets = classification(rows, 3)
        accuracy = quality_with_intervals(CLASSES, predictions, targets, EvaluateConfig(bootstrap=1000))["accuracy"]
        width = 2 * 1.96 * np.sqrt(accuracy.point * (1 - accuracy.point) / rows)
        assert accuracy.high - accuracy.low == pytest.approx(width, rel=0.1)


def test_interval_of_roc_auc_over_coarse_ranks_agrees_with_drawing_rows() -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, 3000)
    score = 1 / (1 + np.exp(-(rng.normal(size=3000) + targets)))
    predictions = np.stack([1 - score, score], axis=1)
    found = quality_with_intervals(CLASSES, predictions, targets, CONFIG)["roc_auc"]
    drawn = [rng.integers(0, 3000, 3000) for _ in range(200)]
    areas = [metrics.roc_auc_score(targets[rows], score[rows]) for rows in drawn]
    assert found.high - found.low == pytest.approx(float(np.diff(np.quantile(areas, [0.025, 0.975]))[0]), rel=0.2)
    assert (found.low + found.high) / 2 == pytest.approx(found.point, abs=0.002)


@pytest.mark.slow
def test_intervals_of_a_hundred_thousand_rows_take_seconds() -> None:
    predictions, targets = classification(100_000, 10)
    start_s = time.monotonic()
    quality_with_intervals(CLASSES, predictions, targets, EvaluateConfig())
    assert time.monotonic() - start_s < 20


def test_class_without_rows_leaves_the_other_metrics() -> None:
    predictions, targets = classification(30, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = quality_with_intervals(CLASSES, predictions, np.zeros_like(targets), CONFIG)
    assert "roc_auc" not in found
    assert found["accuracy"].point == pytest.approx((predictions.argmax(axis=1) == 0).mean())


def test_undefined_main_metric_is_an_error_that_says_what_to_enlarge() -> None:
    with pytest.raises(UndefinedMetricError, match=r"r2 is not defined on the 5 rows .* data\.split\.validation"):
        quality_with_intervals(NUMBERS, np.zeros(5, np.float32), np.ones(5), CONFIG)


def test_mistakes_are_a_confusion_matrix_or_quantiles_of_the_errors() -> None:
    predictions = np.eye(2, dtype=np.float32)[[0, 1, 1, 1]]
    assert mistakes(predictions, np.array([0, 0, 1, 1])).confusion == ((1, 1), (0, 2))
    residuals = mistakes(np.array([1.0, 2, 3]), np.array([1.0, 1, 1])).residuals
    assert residuals is not None
    assert (residuals["p50"], residuals["largest"]) == (1.0, 2.0)
