"""What all tasks have in common.

Shapes: B examples of a batch, N examples of a split, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from windlass.data.description import DatasetDescription
from windlass.errors import InvalidInputError
from windlass.tasks.metric_names import Metric
from windlass.variants.signature import ColumnSpec, Signature, TensorSpec

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn


class UnknownTaskError(InvalidInputError):
    """No task has this name."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(f"there is no task {name!r}; choose one of {', '.join(known)}")
        self.name, self.known = name, known


class Task(ABC):
    """What a kind of question means: from a network's outputs to a loss, to answers and to their quality."""

    name: ClassVar[str]
    modality: ClassVar[Literal["table", "images"]]
    target_kind: ClassVar[Literal["class", "number"]]
    default_architecture: ClassVar[str]
    metric: ClassVar[str]
    """The main metric: one of `metrics`. Models are chosen by it."""
    metrics: ClassVar[Mapping[str, Metric]]
    """Every metric of the task; a recipe's budget may limit any of them by its name."""

    @property
    def higher_is_better(self) -> bool:
        """Of the main metric."""
        return self.metrics[self.metric].higher_is_better

    @abstractmethod
    def num_outputs(self, description: DatasetDescription) -> int:
        """Numbers that the network gives for each example."""

    @abstractmethod
    def loss(self, outputs_BC: Tensor, targets_B: Tensor, weights_C: Tensor | None) -> Tensor:
        """The loss of each example, float32 [B], not averaged.

        Args:
            outputs_BC: what the network gave, [B, C], or [B, 1] for a number.
            targets_B: int64 class indices, or float32 numbers as they are learned (target transform applied).
            weights_C: float32 factor of each class, or None.
        """

    @abstractmethod
    def distillation_loss(self, outputs_BC: Tensor, teacher_BC: Tensor, temperature: float) -> Tensor:
        """How far each example's output is from the teacher's, float32 [B], of a size with `loss`.

        Args:
            outputs_BC: what the network gave, [B, C], or [B, 1] for a number.
            teacher_BC: what the teacher gave for the same inputs.
            temperature: of probabilities; a number has none.
        """

    @abstractmethod
    def head(self, description: DatasetDescription) -> nn.Module:
        """From the network's outputs to answers: probabilities [B, C], or values [B] in the target's own unit."""

    @abstractmethod
    def quality(self, predictions: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """Every metric of `metrics`, by name; NaN where it is undefined on these rows.

        Args:
            predictions: answers as the head gives them, all finite: [N, C] or [N].
            targets: int64 class indices [N], or numbers in their own unit [N]. At least one.
        """

    @abstractmethod
    def epoch_quality(self, predictions: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """The metrics that cost next to nothing, the main one among them, with the values of `quality`."""

    @abstractmethod
    def output_spec(self, description: DatasetDescription) -> TensorSpec:
        """The answer as the signature names it."""

    def input_shape(self, description: DatasetDescription) -> tuple[int, ...]:
        """Shape of one example as the network sees it: (D,) for an encoded table, (C, H, W) for an image."""
        if description.image_shape is not None:
            height, width, channels = description.image_shape
            return (channels, height, width)
        from windlass.data.features import feature_width

        return (feature_width(description),)

    def signature(self, description: DatasetDescription) -> Signature:
        """Inputs and outputs of the served model: raw columns or pixels in, answers out."""
        return Signature(
            inputs=_inputs(description),
            outputs=(self.output_spec(description),),
            columns=_columns(description) if description.modality == "table" else None,
            class_names=description.class_names,
        )


def _columns(description: DatasetDescription) -> tuple[ColumnSpec, ...]:
    return tuple(ColumnSpec(name=column.name, type=column.type) for column in description.features)


def _inputs(description: DatasetDescription) -> tuple[TensorSpec, ...]:
    if description.image_shape is not None:
        return (TensorSpec(name="image", dtype="uint8", shape=(None, *description.image_shape)),)
    columns = _columns(description)
    if all(column.type == "number" for column in columns):
        return (TensorSpec(name="input", dtype="float32", shape=(None, len(columns))),)
    return tuple(
        TensorSpec(name=column.name, dtype="float32" if column.type == "number" else "string", shape=(None,))
        for column in columns
    )
