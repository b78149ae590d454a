"""The tasks' metrics on plain arrays.

Shapes: N examples of a split, C classes.
"""

from __future__ import annotations

import numpy as np


def quality_of_classes(predictions: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """The metrics of a classification, from probabilities [N, C] and class indices [N]."""
    num_classes = predictions.shape[1]
    predicted = predictions.argmax(axis=1)
    confusion = np.bincount(targets * num_classes + predicted, minlength=num_classes**2)
    confusion_TP = confusion.reshape(num_classes, num_classes).astype(float)
    hits, actual, guessed = confusion_TP.diagonal(), confusion_TP.sum(axis=1), confusion_TP.sum(axis=0)
    seen = actual > 0
    chosen = predictions[np.arange(len(targets)), targets].astype(float)
    return {
        "accuracy": float(hits.sum() / len(targets)),
        "balanced_accuracy": float((hits[seen] / actual[seen]).mean()),
        "f1_macro": float((2 * hits[seen] / (actual[seen] + guessed[seen])).mean()),
        "roc_auc": _roc_auc(predictions, targets),
        "log_loss": float(-np.log(np.clip(chosen, 1e-12, 1.0)).mean()),
    }


def quality_of_numbers(predictions: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """The metrics of a regression, from answers [N] and targets [N] in the target's own unit."""
    errors = predictions.astype(float) - targets.astype(float)
    squares = float((errors**2).sum())
    spread = float(((targets - targets.mean(dtype=float)) ** 2).sum())
    return {
        "r2": 1.0 - squares / spread if spread > 0 else float("nan"),
        "mae": float(np.abs(errors).mean()),
        "rmse": float(np.sqrt(squares / len(targets))),
    }


def _roc_auc(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Mean over the classes of the chance that an example of the class is scored above one of the rest.

    By the Mann-Whitney statistic: the sum of the ranks of the class's scores, ties sharing their mean rank.
    """
    classes = range(1, 2) if predictions.shape[1] == 2 else range(predictions.shape[1])
    areas = []
    for index in classes:
        positive = targets == index
        num_positive = int(positive.sum())
        num_negative = len(targets) - num_positive
        if num_positive and num_negative:
            rank_sum = _ranks(predictions[:, index])[positive].sum()
            areas.append((rank_sum - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative))
    return float(np.mean(areas)) if areas else float("nan")


def _ranks(scores: np.ndarray) -> np.ndarray:
    """Ranks from 1, equal scores sharing the mean of theirs."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    means: np.ndarray = (last - (counts - 1) / 2)[inverse]
    return means
