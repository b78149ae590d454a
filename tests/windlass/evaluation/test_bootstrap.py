from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.calibration import calibration_curve

from windlass.evaluation.bootstrap import Bootstrap, resampled_classes, resampled_quality
from windlass.evaluation.config import EvaluateConfig
from windlass.evaluation.documents import ClassFlips
from windlass.evaluation.errors import NotFiniteAnswersError, UndefinedMetricError
from windlass.evaluation.quality import Scored, flips, mistakes
from windlass.tasks import Task, get_task
from windlass.tasks.metric_names import CALIBRATION_BINS

Array = np.ndarray[Any, np.dtype[Any]]
CLASSES, NUMBERS = get_task("tabular-classification"), get_task("tabular-regression")
CONFIG = EvaluateConfig(bootstrap=400)


def classification(rows: int, classes: int, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, rows)
    logits = rng.normal(size=(rows, classes)) + 1.2 * np.eye(classes)[targets]
    exponents = np.exp(np.round(logits, 1))  # rounded, so that scores tie
    return (exponents / exponents.sum(axis=1, keepdims=True)).astype(np.float32), targets


def scored(task: Task, predictions: Array, targets: Array, config: EvaluateConfig = CONFIG) -> Scored:
    return Scored.of(task, predictions, targets, Bootstrap(len(targets), config))


def drawn_rows(bootstrap: Bootstrap, resample: int) -> Array:
    """The rows of one resample; with up to 4,096 rows each group is a row."""
    return np.repeat(np.arange(bootstrap.rows), bootstrap._counts_RG[resample].astype(int))


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(2, 120),
    classes=st.integers(2, 6),
    seed=st.integers(0, 10**6),
    levels=st.sampled_from([2, 5, 1000]),
)
def test_each_resample_of_classes_has_the_quality_of_its_rows(rows: int, classes: int, seed: int, levels: int) -> None:
    """Ties, classes without rows and classes never answered included."""
    rng = np.random.default_rng(seed)
    raw = rng.integers(1, levels + 1, (rows, classes))
    predictions = (raw / raw.sum(axis=1, keepdims=True)).astype(np.float32)
    targets = rng.choice(rng.choice(classes, size=rng.integers(1, classes + 1), replace=False), rows)
    bootstrap = Bootstrap(rows, EvaluateConfig(bootstrap=3))
    samples = resampled_quality(predictions, targets, bootstrap)
    for resample in range(3):
        drawn = drawn_rows(bootstrap, resample)
        wanted = CLASSES.quality(predictions[drawn], targets[drawn])
        assert {name: sample[resample] for name, sample in samples.items()} == pytest.approx(
            wanted, abs=1e-9, nan_ok=True
        )


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(2, 300), seed=st.integers(0, 10**6), decimals=st.integers(0, 6))
def test_each_resample_of_numbers_has_the_quality_of_its_rows(rows: int, seed: int, decimals: int) -> None:
    rng = np.random.default_rng(seed)
    targets = rng.normal(100, 5, rows).round(decimals)
    predictions = (targets + rng.normal(0, 2, rows).round(decimals)).astype(np.float32)
    bootstrap = Bootstrap(rows, EvaluateConfig(bootstrap=3))
    samples = resampled_quality(predictions, targets, bootstrap)
    for resample in range(3):
        drawn = drawn_rows(bootstrap, resample)
        wanted = NUMBERS.quality(predictions[drawn], targets[drawn])
        found = {name: sample[resample] for name, sample in samples.items()}
        assert found == pytest.approx(wanted, rel=1e-6, abs=1e-9, nan_ok=True)


def test_every_metric_of_a_task_has_an_interval_around_its_point() -> None:
    rng = np.random.default_rng(0)
    targets = rng.normal(1000, 5, 300)
    for task, predictions, wanted in (
        (NUMBERS, (targets + rng.normal(0, 2, 300)).astype(np.float32), targets),
        (CLASSES, *classification(300, 2)),
        (CLASSES, *classification(300, 5)),
    ):
        quality = scored(task, predictions, wanted).quality()
        assert quality.keys() == task.metrics.keys()
        for interval in quality.values():
            assert interval.low < interval.point < interval.high


def test_interval_of_accuracy_has_the_width_that_theory_gives_with_few_rows_and_with_many() -> None:
    for rows in (400, 40_000):
        predictions, targets = classification(rows, 3)
        accuracy = scored(CLASSES, predictions, targets, EvaluateConfig()).quality()["accuracy"]
        width = 2 * 1.96 * np.sqrt(accuracy.point * (1 - accuracy.point) / rows)
        assert accuracy.high - accuracy.low == pytest.approx(width, rel=0.1)


def test_intervals_over_coarse_ranks_agree_with_drawing_rows() -> None:
    """3,000 distinct scores in 256 ranks, and 3,000 distinct errors in 512."""
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, 3000, 3000) for _ in range(200)]
    labels = rng.integers(0, 2, 3000)
    score = 1 / (1 + np.exp(-(rng.normal(size=3000) + labels)))
    targets = rng.normal(size=3000)
    answers = targets + rng.normal(size=3000)
    classes = scored(CLASSES, np.stack([1 - score, score], axis=1), labels).quality()
    numbers = scored(NUMBERS, answers, targets).quality()
    for found, value in (
        (classes["roc_auc"], lambda rows: metrics.roc_auc_score(labels[rows], score[rows])),
        (classes["pr_auc"], lambda rows: metrics.average_precision_score(labels[rows], score[rows])),
        (numbers["median_ae"], lambda rows: metrics.median_absolute_error(targets[rows], answers[rows])),
        (numbers["p99_ae"], lambda rows: np.quantile(np.abs(targets - answers)[rows], 0.99)),
    ):
        low, high = np.quantile([value(rows) for rows in drawn], [0.025, 0.975])
        assert found.high - found.low == pytest.approx(high - low, rel=0.2)
        assert (found.low + found.high) / 2 == pytest.approx((low + high) / 2, abs=0.1 * (high - low))


def test_difference_is_paired_by_row() -> None:
    """One model answers as the other but for one row in ten: the difference is known far better than either."""
    targets = np.arange(400) % 2
    better = np.eye(2, dtype=np.float32)[targets]
    worse = better.copy()
    worse[:40] = worse[:40, ::-1]
    config = EvaluateConfig()
    bootstrap = Bootstrap(400, config)
    first, second = (Scored.of(CLASSES, answers, targets, bootstrap) for answers in (better, worse))
    difference = second.minus(first)["accuracy"]
    spread = np.sqrt(0.1 * 0.9 / 400)
    assert difference.point == pytest.approx(-0.1)
    assert difference.low == pytest.approx(-0.1 - 1.96 * spread, abs=0.006)
    assert difference.high == pytest.approx(-0.1 + 1.96 * spread, abs=0.006)
    assert first.better_than(second).point == pytest.approx(0.1)
    assert first.minus(first)["log_loss"].high == 0


def test_everything_about_ten_thousand_rows_of_ten_classes_takes_about_a_second() -> None:
    predictions, targets = classification(10_000, 10)
    scored(CLASSES, predictions[:99], targets[:99])  # imports
    start_s = time.process_time()
    bootstrap = Bootstrap(10_000, EvaluateConfig())
    Scored.of(CLASSES, predictions, targets, bootstrap).quality()
    mistakes(predictions, targets, bootstrap)
    assert time.process_time() - start_s < 4  # seconds of both cores together, on a busy machine


def test_class_without_rows_counts_in_no_average() -> None:
    predictions, targets = classification(30, 3)
    found = scored(CLASSES, predictions, np.zeros_like(targets)).quality()
    assert found.keys() == CLASSES.metrics.keys() - {"roc_auc", "pr_auc"}
    right = (predictions.argmax(axis=1) == 0).mean()
    assert found["accuracy"].point == found["balanced_accuracy"].point == pytest.approx(right)


def test_undefined_main_metric_is_an_error_that_says_what_to_enlarge() -> None:
    with pytest.raises(UndefinedMetricError, match=r"r2 is not defined on the 5 rows .* data\.split\.validation"):
        scored(NUMBERS, np.zeros(5, np.float32), np.ones(5))


@pytest.mark.parametrize(
    ("task", "answers"),
    [(CLASSES, [[0.5, 0.5], [np.nan, 1]]), (CLASSES, [[0.5, 0.5], [0, 0]]), (NUMBERS, [1.0, np.inf])],
)
def test_answers_that_are_no_numbers_are_an_error_that_counts_them(task: Task, answers: list[Any]) -> None:
    with pytest.raises(NotFiniteAnswersError, match=r"1 of 2 rows; leave this candidate out of compress\.candidates"):
        scored(task, np.array(answers, np.float32), np.array([0, 1]))


def test_mistakes_of_classes_are_their_confusion_and_each_class_against_the_rest() -> None:
    predictions, targets = classification(300, 4)
    predictions[:, 3] = 0  # never answered
    found = mistakes(predictions, targets, Bootstrap(300, CONFIG))
    predicted = predictions.argmax(axis=1)
    assert found.confusion is not None
    np.testing.assert_array_equal(found.confusion, metrics.confusion_matrix(targets, predicted))
    wanted = metrics.precision_recall_fscore_support(targets, predicted, zero_division=0)
    for index, (precision, recall, f1, rows) in enumerate(zip(*wanted, strict=True)):
        measured = found.classes[index]
        assert (measured.rows, measured.answered) == (rows, (predicted == index).sum())
        assert (measured.precision is None) == (index == 3)
        for figure, value in ((measured.precision, precision), (measured.recall, recall), (measured.f1, f1)):
            assert figure is None or figure.point == pytest.approx(value)
            assert figure is None or figure.low <= figure.point <= figure.high


def test_interval_of_a_class_is_that_of_its_resampled_rows() -> None:
    predictions, targets = classification(200, 3)
    bootstrap = Bootstrap(200, CONFIG)
    recall_RC = resampled_classes(predictions, targets, bootstrap)["recall"]
    drawn = drawn_rows(bootstrap, 5)
    wanted = metrics.recall_score(targets[drawn], predictions.argmax(axis=1)[drawn], average=None)
    np.testing.assert_allclose(recall_RC[5], wanted)


def test_calibration_error_is_the_gap_of_the_calibration_curve_weighted_by_rows() -> None:
    predictions, targets = classification(500, 3)
    proba = predictions.astype(float) / predictions.sum(axis=1, dtype=float)[:, None]
    confidence, right = proba.max(axis=1), proba.argmax(axis=1) == targets
    accuracy, mean_confidence = calibration_curve(right, confidence, n_bins=CALIBRATION_BINS)
    counts = np.histogram(confidence, np.linspace(0, 1, CALIBRATION_BINS + 1))[0]
    wanted = (counts[counts > 0] * np.abs(accuracy - mean_confidence)).sum() / 500
    assert CLASSES.quality(predictions, targets)["calibration_error"] == pytest.approx(wanted)
    bins = mistakes(predictions, targets, Bootstrap(500, CONFIG)).calibration
    assert [bin.rows for bin in bins] == counts[counts > 0].tolist()
    assert [bin.accuracy for bin in bins] == pytest.approx(accuracy)
    assert [bin.confidence for bin in bins] == pytest.approx(mean_confidence)


def test_mistakes_of_numbers_are_quantiles_of_the_errors_also_by_decile_of_the_answer() -> None:
    answers = np.arange(100.0)
    found = mistakes(answers, answers - np.where(answers < 10, 2, 0), Bootstrap(100, CONFIG))
    assert found.residuals is not None
    assert (found.residuals["p50"], found.residuals["largest"]) == (0, 2)
    assert [decile.rows for decile in found.deciles] == [10] * 10
    assert [decile.mean for decile in found.deciles] == [2, *[0] * 9]
    assert (found.deciles[1].low, found.deciles[1].high) == (10, 19)
    few = mistakes(np.array([1.0, 2, 3]), np.array([1.0, 1, 1]), Bootstrap(3, CONFIG))
    assert [decile.rows for decile in few.deciles] == [1, 1, 1]


def test_flips_are_counted_by_actual_class() -> None:
    before, after = (np.eye(3)[answers] for answers in ([0, 0, 1, 1, 0], [0, 1, 1, 0, 2]))
    found = flips(before, after, np.array([0, 0, 0, 1, 2]))
    assert found == (
        ClassFlips(rows=3, flipped=1, right_to_wrong=1, wrong_to_right=0),
        ClassFlips(rows=1, flipped=1, right_to_wrong=1, wrong_to_right=0),
        ClassFlips(rows=1, flipped=1, right_to_wrong=0, wrong_to_right=1),
    )
