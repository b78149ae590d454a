"""A candidate's quality from its answers, with intervals; and where it is wrong.

Shapes: N rows, C classes, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from windlass.evaluation.bootstrap import Bootstrap, percentile_interval, resampled_classes, resampled_quality
from windlass.evaluation.documents import (
    MEASUREMENT_NAME,
    PREDICTIONS_NAME,
    CalibrationBin,
    ClassFlips,
    ClassQuality,
    Interval,
    Measurement,
    Mistakes,
    ResidualDecile,
)
from windlass.evaluation.errors import NotFiniteAnswersError, UndefinedMetricError
from windlass.evaluation.resamples import read_resamples
from windlass.tasks import Task
from windlass.tasks.metric_names import CALIBRATION_BINS
from windlass.tasks.metrics import calibration_bins, normalized

Array = np.ndarray[Any, np.dtype[Any]]

MAX_SHOWN_CLASSES = 50


class Scored:
    """The metrics of one model's answers to the rows of a split: on all rows, and on each resample, [R]."""

    def __init__(
        self, task: Task, points: Mapping[str, float], samples: Mapping[str, Array], confidence: float
    ) -> None:
        self.points, self.samples = points, samples
        self._task, self._confidence = task, confidence

    @classmethod
    def of(cls, task: Task, predictions: Array, targets_N: Array, bootstrap: Bootstrap) -> Self:
        """Score answers [N, C] or [N].

        Raises:
            NotFiniteAnswersError: an answer is NaN or infinite, or no class has a probability.
            UndefinedMetricError: the main metric has no value on these rows.
        """
        answers = predictions if predictions.ndim == 1 else predictions / _positive(predictions.sum(axis=1))[:, None]
        if bad := len(targets_N) - int(np.isfinite(answers.reshape(len(targets_N), -1)).all(axis=1).sum()):
            raise NotFiniteAnswersError(bad, len(targets_N))
        found = task.quality(predictions, targets_N)
        points = {name: value for name, value in found.items() if math.isfinite(value)}
        if task.metric not in points:
            raise UndefinedMetricError(task.metric, len(targets_N))
        samples = resampled_quality(predictions, targets_N, bootstrap)
        samples = {name: _unbiased(name, sample_R, found[name]) for name, sample_R in samples.items()}
        return cls(task, points, samples, bootstrap.confidence)

    @classmethod
    def read(cls, task: Task, directory: Path, confidence: float) -> Self:
        """That of a measurement."""
        quality = Measurement.read(directory / MEASUREMENT_NAME).quality
        points = {name: interval.point for name, interval in quality.items()}
        return cls(task, points, read_resamples(directory), confidence)

    def quality(self) -> dict[str, Interval]:
        """Every metric that is defined on these rows."""
        return {name: self._interval(value, self.samples[name]) for name, value in self.points.items()}

    def minus(self, other: Scored) -> dict[str, Interval]:
        """Every metric of this model less that of another on the same rows, paired by row."""
        return {
            name: self._interval(value - other.points[name], self.samples[name] - other.samples[name])
            for name, value in self.points.items()
            if name in other.points
        }

    def better_than(self, other: Scored) -> Interval:
        """By how much this model is better in the main metric, paired by row: positive is better."""
        difference = self.minus(other)[self._task.metric]
        if self._task.higher_is_better:
            return difference
        return Interval(point=-difference.point, low=-difference.high, high=-difference.low)

    def _interval(self, point: float, sample_R: Array) -> Interval:
        return percentile_interval(point, sample_R, self._confidence)


def _positive(sums_N: Array) -> Array:
    positive_N: Array = np.where(sums_N > 0, sums_N, np.nan)
    return positive_N


def _unbiased(name: str, sample_R: Array, point: float) -> Array:
    """Resamples of calibration error around its point: each is a sum of absolute noise, and so larger on average."""
    if name != "calibration_error":
        return sample_R
    centered_R: Array = np.clip(sample_R - sample_R.mean() + point, 0, None)
    return centered_R


def agreement(first: Array, second: Array) -> float | None:
    """Share of rows to which both answer the same class; None for numbers."""
    if first.ndim == 1:
        return None
    return float((first.argmax(axis=1) == second.argmax(axis=1)).mean())


def flips(before: Array, after: Array, targets_N: Array) -> tuple[ClassFlips, ...]:
    """What became of each class's rows, by two models' answers [N, C]; empty for numbers."""
    if before.ndim == 1:
        return ()
    num_classes = before.shape[1]
    first_N, second_N = before.argmax(axis=1), after.argmax(axis=1)

    def count(chosen_N: Array) -> list[int]:
        counts: list[int] = np.bincount(targets_N[chosen_N], minlength=num_classes).tolist()
        return counts

    columns = (
        count(np.ones(len(targets_N), bool)),
        count(first_N != second_N),
        count((first_N == targets_N) & (second_N != targets_N)),
        count((first_N != targets_N) & (second_N == targets_N)),
    )
    return tuple(
        ClassFlips(rows=rows, flipped=flipped, right_to_wrong=lost, wrong_to_right=won)
        for rows, flipped, lost, won in zip(*columns, strict=True)
    )


def mistakes(predictions: Array, targets_N: Array, bootstrap: Bootstrap) -> Mistakes:
    """Where answers [N, C] or [N] are wrong."""
    if predictions.ndim == 1:
        return _mistakes_of_numbers(predictions.astype(np.float64), targets_N)
    num_classes = predictions.shape[1]
    calibration = _calibration(predictions, targets_N)
    if num_classes > MAX_SHOWN_CLASSES:
        return Mistakes(calibration=calibration)
    cells = np.bincount(targets_N * num_classes + predictions.argmax(axis=1), minlength=num_classes**2)
    confusion_CC = cells.reshape(num_classes, num_classes)
    return Mistakes(
        confusion=tuple(tuple(row) for row in confusion_CC.tolist()),
        classes=_classes(confusion_CC, resampled_classes(predictions, targets_N, bootstrap), bootstrap),
        calibration=calibration,
    )


def _classes(confusion_CC: Array, samples: Mapping[str, Array], bootstrap: Bootstrap) -> tuple[ClassQuality, ...]:
    hits_C, rows_C, answered_C = confusion_CC.diagonal(), confusion_CC.sum(axis=1), confusion_CC.sum(axis=0)

    def interval(name: str, index: int, of: int) -> Interval | None:
        factor = 2 if name == "f1" else 1
        return bootstrap.interval(factor * float(hits_C[index]) / of, samples[name][:, index]) if of else None

    return tuple(
        ClassQuality(
            rows=rows,
            answered=answered,
            precision=interval("precision", index, answered),
            recall=interval("recall", index, rows),
            f1=interval("f1", index, rows + answered),
        )
        for index, (rows, answered) in enumerate(zip(rows_C.tolist(), answered_C.tolist(), strict=True))
    )


def _calibration(predictions_NC: Array, targets_N: Array) -> tuple[CalibrationBin, ...]:
    proba_NC = normalized(predictions_NC)
    bin_N, confidence_N = calibration_bins(proba_NC)
    right_N = (proba_NC.argmax(axis=1) == targets_N).astype(np.float64)
    count_K, confidence_K, right_K = (
        np.bincount(bin_N, weights=weights, minlength=CALIBRATION_BINS) for weights in (None, confidence_N, right_N)
    )
    return tuple(
        CalibrationBin(
            low=index / CALIBRATION_BINS,
            high=(index + 1) / CALIBRATION_BINS,
            rows=int(count_K[index]),
            confidence=float(confidence_K[index] / count_K[index]),
            accuracy=float(right_K[index] / count_K[index]),
        )
        for index in np.flatnonzero(count_K).tolist()
    )


def _mistakes_of_numbers(predictions_N: Array, targets_N: Array) -> Mistakes:
    errors_N = predictions_N - targets_N
    quantiles = {f"p{share}": float(np.quantile(errors_N, share / 100)) for share in (5, 25, 50, 75, 95)}
    order_N = np.argsort(predictions_N, kind="stable")
    deciles = []
    for rows in np.array_split(order_N, 10):
        if len(rows):
            p5, p50, p95 = np.quantile(errors_N[rows], [0.05, 0.5, 0.95]).tolist()
            low, high, mean = predictions_N[rows[0]], predictions_N[rows[-1]], errors_N[rows].mean()
            figures = {"low": float(low), "high": float(high), "rows": len(rows), "mean": float(mean)}
            deciles.append(ResidualDecile(**figures, p5=p5, p50=p50, p95=p95))
    return Mistakes(residuals={**quantiles, "largest": float(np.abs(errors_N).max())}, deciles=tuple(deciles))


def read_predictions(directory: Path) -> tuple[Array, Array]:
    """Answers [N, C] or [N] and targets [N] of a measurement."""
    with np.load(directory / PREDICTIONS_NAME, allow_pickle=False) as arrays:
        return arrays["predictions"], arrays["targets"]
