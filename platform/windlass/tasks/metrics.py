"""The values of the tasks' metrics: by scikit-learn where it has them.

scikit-learn takes a second to import. What training needs after each epoch is therefore also here in plain NumPy.

Shapes: N examples of a split, C classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from windlass.tasks.metric_names import CALIBRATION_BINS, ERROR_QUANTILES

Array = np.ndarray[Any, np.dtype[Any]]


def quality_of_classes(predictions_NC: Array, targets_N: Array) -> dict[str, float]:
    """`CLASS_METRICS` from finite probabilities [N, C] and class indices [N].

    A class without rows counts in no average; a class that is never answered has precision 0.
    """
    from sklearn import metrics

    proba_NC = normalized(predictions_NC)
    num_classes = proba_NC.shape[1]
    predicted_N = predictions_NC.argmax(axis=1)
    seen = np.unique(targets_N)
    precision_S, recall_S, f1_S, _ = metrics.precision_recall_fscore_support(
        targets_N, predicted_N, labels=seen, zero_division=0
    )
    return {
        "accuracy": float(metrics.accuracy_score(targets_N, predicted_N)),
        "balanced_accuracy": float(recall_S.mean()),
        "precision_macro": float(precision_S.mean()),
        "recall_macro": float(recall_S.mean()),
        "f1_macro": float(f1_S.mean()),
        "roc_auc": _mean_over_classes(metrics.roc_auc_score, predictions_NC, targets_N),
        "pr_auc": _mean_over_classes(metrics.average_precision_score, predictions_NC, targets_N),
        "log_loss": float(metrics.log_loss(targets_N, proba_NC, labels=range(num_classes))),
        "brier": float(
            metrics.brier_score_loss(np.eye(num_classes)[targets_N], proba_NC, scale_by_half=num_classes == 2)
        ),
        "calibration_error": calibration_error(proba_NC, targets_N),
    }


def quality_of_numbers(predictions_N: Array, targets_N: Array) -> dict[str, float]:
    """`NUMBER_METRICS` from finite answers [N] and targets [N] in the target's own unit."""
    from sklearn import metrics

    answers_N, wanted_N = predictions_N.astype(np.float64), targets_N.astype(np.float64)
    errors_N = np.abs(answers_N - wanted_N)
    return {
        "r2": float(metrics.r2_score(wanted_N, answers_N)) if np.ptp(wanted_N) > 0 else float("nan"),
        "mse": float(metrics.mean_squared_error(wanted_N, answers_N)),
        "rmse": float(metrics.root_mean_squared_error(wanted_N, answers_N)),
        "mae": float(metrics.mean_absolute_error(wanted_N, answers_N)),
        "median_ae": float(metrics.median_absolute_error(wanted_N, answers_N)),
        **{name: float(np.quantile(errors_N, share)) for name, share in ERROR_QUANTILES.items()},
    }


def epoch_quality_of_classes(predictions_NC: Array, targets_N: Array) -> dict[str, float]:
    """The metrics that a confusion matrix gives, and `log_loss`, in plain NumPy."""
    num_classes = predictions_NC.shape[1]
    cells = np.bincount(targets_N * num_classes + predictions_NC.argmax(axis=1), minlength=num_classes**2)
    confusion_CC = cells.reshape(num_classes, num_classes).astype(float)
    hits_C, actual_C, answered_C = confusion_CC.diagonal(), confusion_CC.sum(axis=1), confusion_CC.sum(axis=0)
    seen_C = actual_C > 0
    return {
        "accuracy": float(hits_C.sum() / len(targets_N)),
        "balanced_accuracy": float((hits_C[seen_C] / actual_C[seen_C]).mean()),
        "f1_macro": float((2 * hits_C[seen_C] / (actual_C[seen_C] + answered_C[seen_C])).mean()),
        "log_loss": float(surprise_in_nats(normalized(predictions_NC), targets_N).mean()),
    }


def epoch_quality_of_numbers(predictions_N: Array, targets_N: Array) -> dict[str, float]:
    """`r2`, `mae` and `rmse` in plain NumPy."""
    errors_N = predictions_N.astype(float) - targets_N.astype(float)
    squares = float((errors_N**2).sum())
    variation = float(((targets_N - targets_N.mean(dtype=float)) ** 2).sum())
    return {
        "r2": 1.0 - squares / variation if variation > 0 else float("nan"),
        "mae": float(np.abs(errors_N).mean()),
        "rmse": float(np.sqrt(squares / len(targets_N))),
    }


def normalized(predictions_NC: Array) -> Array:
    """Probabilities in float64 whose rows add up to 1 in float64 too."""
    exact_NC = predictions_NC.astype(np.float64)
    scaled_NC: Array = exact_NC / exact_NC.sum(axis=1, keepdims=True)
    return scaled_NC


def surprise_in_nats(proba_NC: Array, targets_N: Array) -> Array:
    """-log p of each row's class [N], p kept off 0 as scikit-learn does."""
    chosen_N = proba_NC[np.arange(len(targets_N)), targets_N]
    nats_N: Array = -np.log(np.clip(chosen_N, np.finfo(np.float64).eps, 1.0))
    return nats_N


def calibration_bins(proba_NC: Array) -> tuple[Array, Array]:
    """The bin of each row by the probability of its answer, and that probability: ints [N], float64 [N]."""
    confidence_N = proba_NC.max(axis=1)
    inner = np.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1]
    return np.searchsorted(inner, confidence_N, side="left"), confidence_N


def calibration_error(proba_NC: Array, targets_N: Array) -> float:
    """How far confidence and accuracy are apart, weighted by rows (Naeini, Cooper and Hauskrecht, 2015)."""
    bin_N, confidence_N = calibration_bins(proba_NC)
    right_N = proba_NC.argmax(axis=1) == targets_N
    gap_K = np.bincount(bin_N, weights=right_N - confidence_N, minlength=CALIBRATION_BINS)
    return float(np.abs(gap_K).sum() / len(targets_N))


def _mean_over_classes(score: Any, predictions_NC: Array, targets_N: Array) -> float:
    """Of each class against the rest, over the classes that have both; of the second class for two.

    By the answers as they are: scaling rows to an exact sum of 1 would part scores that tie.
    """
    num_classes = predictions_NC.shape[1]
    found = []
    for index in range(1, 2) if num_classes == 2 else range(num_classes):
        positive_N = targets_N == index
        if positive_N.any() and not positive_N.all():
            found.append(float(score(positive_N, predictions_NC[:, index])))
    return float(np.mean(found)) if found else float("nan")
