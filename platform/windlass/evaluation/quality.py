"""A candidate's quality from its answers, with intervals; and where it is wrong."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from windlass.evaluation.bootstrap import Bootstrap, resampled_quality
from windlass.evaluation.config import EvaluateConfig
from windlass.evaluation.documents import PREDICTIONS_NAME, Interval, Mistakes
from windlass.evaluation.errors import UndefinedMetricError
from windlass.tasks import Task

Array = np.ndarray[Any, np.dtype[Any]]

_MAX_SHOWN_CLASSES = 50


def quality_with_intervals(
    task: Task, predictions: Array, targets: Array, config: EvaluateConfig
) -> dict[str, Interval]:
    """Every metric of the task that is defined on these rows.

    Raises:
        UndefinedMetricError: the main metric is not.
    """
    bootstrap = Bootstrap(len(targets), config)
    samples = resampled_quality(predictions, targets, bootstrap)
    points = {name: value for name, value in task.quality(predictions, targets).items() if math.isfinite(value)}
    if task.metric not in points:
        raise UndefinedMetricError(task.metric, len(targets))
    return {name: bootstrap.interval(value, samples[name]) for name, value in points.items()}


def paired_drop(task: Task, better: Array, worse: Array, targets: Array, config: EvaluateConfig) -> Interval:
    """By how much `worse` is worse in the main metric, both drawn with the same rows in each resample."""
    bootstrap = Bootstrap(len(targets), config)
    sign = 1 if task.higher_is_better else -1
    points = [task.quality(predictions, targets)[task.metric] for predictions in (better, worse)]
    samples = [resampled_quality(predictions, targets, bootstrap)[task.metric] for predictions in (better, worse)]
    return bootstrap.interval(sign * (points[0] - points[1]), sign * (samples[0] - samples[1]))


def agreement(first: Array, second: Array) -> float | None:
    """Share of rows to which both answer the same class; None for numbers."""
    if first.ndim == 1:
        return None
    return float((first.argmax(axis=1) == second.argmax(axis=1)).mean())


def mistakes(predictions: Array, targets: Array) -> Mistakes:
    """The confusion matrix, or quantiles of the errors."""
    if predictions.ndim == 1:
        errors = predictions.astype(np.float64) - targets
        quantiles = {f"p{share}": float(np.quantile(errors, share / 100)) for share in (5, 25, 50, 75, 95)}
        return Mistakes(residuals={**quantiles, "largest": float(np.abs(errors).max())})
    num_classes = predictions.shape[1]
    if num_classes > _MAX_SHOWN_CLASSES:
        return Mistakes()
    cells = np.bincount(targets * num_classes + predictions.argmax(axis=1), minlength=num_classes**2)
    return Mistakes(confusion=tuple(tuple(row) for row in cells.reshape(num_classes, num_classes).tolist()))


def read_predictions(directory: Path) -> tuple[Array, Array]:
    """Answers [N, C] or [N] and targets [N] of a measurement."""
    with np.load(directory / PREDICTIONS_NAME, allow_pickle=False) as arrays:
        return arrays["predictions"], arrays["targets"]
