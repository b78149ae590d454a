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
    def distillation_loss(self, outputs_BC: Tensor, teacher_BC: Tensor, temperature: float) -> Tensor:
        """T² KL(teacher || network) of probabilities at temperature T: Hinton, Vinyals and Dean (2015)."""
        from torch.nn import functional

        wanted_BC = functional.log_softmax(teacher_BC / temperature, dim=1)
        found_BC = functional.log_softmax(outputs_BC / temperature, dim=1)
        divergence_BC = functional.kl_div(found_BC, wanted_BC, reduction="none", log_target=True)
        return divergence_BC.sum(dim=1) * temperature**2

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
