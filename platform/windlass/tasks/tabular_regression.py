"""`tabular-regression`: which number belongs to a row.

Shapes: B examples of a batch, N examples of a split.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from windlass.data.description import DatasetDescription
from windlass.tasks.metric_names import NUMBER_METRICS, Metric
from windlass.tasks.task import Task
from windlass.variants.signature import TensorSpec

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn


class TabularRegression(Task):
    """Rows of a table, one number each."""

    name: ClassVar[str] = "tabular-regression"
    modality: ClassVar[Literal["table", "images"]] = "table"
    target_kind: ClassVar[Literal["class", "number"]] = "number"
    default_architecture: ClassVar[str] = "mlp"
    metric: ClassVar[str] = "r2"
    metrics: ClassVar[Mapping[str, Metric]] = NUMBER_METRICS

    @override
    def num_outputs(self, description: DatasetDescription) -> int:
        return 1

    @override
    def loss(self, outputs_BC: Tensor, targets_B: Tensor, weights_C: Tensor | None) -> Tensor:
        from torch.nn import functional

        assert weights_C is None
        return functional.mse_loss(outputs_BC.squeeze(1), targets_B, reduction="none")

    @override
    def distillation_loss(self, outputs_BC: Tensor, teacher_BC: Tensor, temperature: float) -> Tensor:
        from torch.nn import functional

        return functional.mse_loss(outputs_BC.squeeze(1), teacher_BC.squeeze(1), reduction="none")

    @override
    def head(self, description: DatasetDescription) -> nn.Module:
        from windlass.tasks.heads import Value

        transform = description.target_transform
        return Value(0.0, 1.0) if transform is None else Value(transform.mean, transform.scale)

    @override
    def output_spec(self, description: DatasetDescription) -> TensorSpec:
        return TensorSpec(name="value", dtype="float32", shape=(None,))

    @override
    def quality(self, predictions: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        from windlass.tasks.metrics import quality_of_numbers

        return quality_of_numbers(predictions, targets)

    @override
    def epoch_quality(self, predictions: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        from windlass.tasks.metrics import epoch_quality_of_numbers

        return epoch_quality_of_numbers(predictions, targets)
