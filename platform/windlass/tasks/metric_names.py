"""The tasks' metrics by name. Without NumPy: reading a recipe needs the names and no values."""

from __future__ import annotations

from dataclasses import dataclass

CALIBRATION_BINS = 15
ERROR_QUANTILES = {"p90_ae": 0.9, "p99_ae": 0.99}


@dataclass(frozen=True)
class Metric:
    """What a figure of quality means."""

    meaning: str
    higher_is_better: bool = True


CLASS_METRICS = {
    "accuracy": Metric("share of right answers"),
    "balanced_accuracy": Metric("mean recall of the classes"),
    "precision_macro": Metric("mean precision of the classes"),
    "recall_macro": Metric("mean recall of the classes, by the name that people look for"),
    "f1_macro": Metric("mean F1 of the classes"),
    "roc_auc": Metric("area under the ROC curve, each class against the rest, averaged"),
    "pr_auc": Metric("average precision, each class against the rest, averaged"),
    "log_loss": Metric("mean surprise in nats", higher_is_better=False),
    "brier": Metric("mean squared error of the probabilities: 0 to 1 for two classes, to 2 for more", False),
    "calibration_error": Metric(f"expected calibration error over {CALIBRATION_BINS} equally wide bins", False),
}
NUMBER_METRICS = {
    "r2": Metric("share of the variance that is explained"),
    "mse": Metric("mean squared error", higher_is_better=False),
    "rmse": Metric("its root, in the target's unit", higher_is_better=False),
    "mae": Metric("mean absolute error", higher_is_better=False),
    "median_ae": Metric("median of the absolute errors", higher_is_better=False),
    "p90_ae": Metric("90th percentile of the absolute errors", higher_is_better=False),
    "p99_ae": Metric("99th percentile of the absolute errors", higher_is_better=False),
}
