"""The splits of a bundle as whole tensors on the device, indexed by the batch.

Shapes: N examples of a split, D features, H height, W width, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from windlass.data.bundle import Bundle
from windlass.data.description import DatasetDescription, SplitName
from windlass.data.features import encode


@dataclass(frozen=True)
class SplitTensors:
    """One split.

    Attributes:
        features: float32 [N, D] of a table, uint8 [N, H, W, C] of images.
        targets: int64 [N] class indices, or float32 [N] numbers as they are learned.
    """

    features: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class TrainArrays:
    """What a training reads: the test split is not among it."""

    description: DatasetDescription
    train: SplitTensors
    validation: SplitTensors

    @classmethod
    def open(cls, dataset: Path, device: torch.device) -> TrainArrays:
        bundle = Bundle.open(dataset)
        return cls(bundle.description, _split(bundle, "train", device), _split(bundle, "validation", device))


def own_unit(description: DatasetDescription, targets_N: NDArray[np.generic]) -> NDArray[np.generic]:
    """Targets as the task's metrics want them: numbers with the target transform undone."""
    transform = description.target_transform
    if transform is None:
        return targets_N
    return targets_N.astype(np.float64) * transform.scale + transform.mean


def class_weights(targets_N: Tensor, num_classes: int) -> Tensor:
    """Weights that make every class count alike, float32 [C]; their mean over the examples is 1."""
    counts_C = torch.bincount(targets_N, minlength=num_classes)
    present_C = counts_C > 0
    weights_C = len(targets_N) / (present_C.sum() * counts_C.clamp(min=1))
    return torch.where(present_C, weights_C, 0.0).float()


def _split(bundle: Bundle, split: SplitName, device: torch.device) -> SplitTensors:
    encoded = encode(bundle, split)
    return SplitTensors(torch.from_numpy(encoded.features).to(device), torch.from_numpy(encoded.targets).to(device))
