"""What both classification tasks share: cross-entropy, softmax, and metrics of probabilities.

Shapes: B examples of a batch, N examples of a split, C classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from typing_extensions import override

from windlass.data.description import DatasetDescription
from windlass.tasks.task import Task
from windlass.variants.signature import TensorSpec

if TYPE_CHECKING:
    from torch import Tensor, nn


class Classification(Task):
    """One of C classes for each example."""

    target_kind: ClassVar[Literal["class", "number"]] = "class"
    metric: ClassVar[str] = "accuracy"

    @override
    def num_outputs(self, description: DatasetDescription) -> int:
        assert description.class_names is not None
        return len(description.class_names)

    @override
    def loss(self, outputs_BC: Tensor, targets_B: Tensor, weights_C: Tensor | None) -> Tensor:
        from torch.nn import functional

        return functional.cross_entropy(outputs_BC, targets_B, weight=weights_C, reduction="none")

    @override
    def head(self, description: DatasetDescription) -> nn.Module:
        from windlass.tasks.heads import Probabilities

        return Probabilities()

    @override
    def output_spec(self, description: DatasetDescription) -> TensorSpec:
        return TensorSpec(name="probabilities", dtype="float32", shape=(None, self.num_outputs(description)))

    @override
    def quality(self, predictions: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """accuracy, balanced_accuracy, f1_macro, roc_auc (one against the rest, averaged) and log_loss in nats.

        A class without examples counts in no average; without two classes `roc_auc` is NaN.
        """
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
