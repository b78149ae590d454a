"""What both classification tasks share: cross-entropy, softmax, and metrics of probabilities.

Shapes: B examples of a batch, N examples of a split, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from windlass.data.description import DatasetDescription
from windlass.tasks.metric_names import CLASS_METRICS, Metric
from windlass.tasks.task import Task
from windlass.variants.signature import TensorSpec

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn


class Classification(Task):
    """One of C classes for each example."""

    target_kind: ClassVar[Literal["class", "number"]] = "class"
    metric: ClassVar[str] = "accuracy"
    metrics: ClassVar[Mapping[str, Metric]] = CLASS_METRICS

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
        from windlass.tasks.metrics import quality_of_classes

        return quality_of_classes(predictions, targets)

    @override
    def epoch_quality(self, predictions: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        from windlass.tasks.metrics import epoch_quality_of_classes

        return epoch_quality_of_classes(predictions, targets)
