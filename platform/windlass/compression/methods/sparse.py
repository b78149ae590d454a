"""Sparsity: single weights set to zero and kept there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from typing_extensions import override

from windlass.compression.errors import NotApplicableError
from windlass.compression.methods._training import fine_tuning
from windlass.compression.methods.method import NetworkMethod

if TYPE_CHECKING:
    from torch import Tensor, nn

    from windlass.compression.config import CompressConfig
    from windlass.models.spec import ModelSpec
    from windlass.training.config import TrainConfig
    from windlass.training.documents import Learning

_TWO_OF_FOUR = "2:4"


@dataclass(frozen=True)
class Sparse(NetworkMethod):
    """PERCENT of each layer's weights zero, those of the smallest magnitude; or two of every four along its inputs.

    Layers are linear ones and convolutions, their biases stay; for 2:4, those whose inputs can be divided by four.
    All layers ranked together would leave nothing of one whose weights are small by nature. ONNX Runtime multiplies
    zeros like other numbers: nothing gets faster, and the file gets smaller only when it is compressed (docs/LOG.md).
    """

    form: ClassVar[str] = "sparse-PERCENT"
    summary: ClassVar[str] = (
        "PERCENT of each layer's weights zero, or sparse-2:4; no speed, and less size only where files are compressed"
    )
    pattern: str

    @classmethod
    @override
    def parse(cls, name: str) -> Self | None:
        match = re.fullmatch(r"sparse-([1-9][0-9]?|2:4)", name)
        return cls(match[1]) if match else None

    @property
    @override
    def name(self) -> str:
        return f"sparse-{self.pattern}"

    @override
    def shape(self, spec: ModelSpec, network: nn.Module, config: CompressConfig) -> tuple[ModelSpec, nn.Module]:
        import torch
        from torch import nn

        layers = [module for module in network.modules() if isinstance(module, nn.Linear | nn.modules.conv._ConvNd)]
        weights = [layer.weight for layer in layers]
        if self.pattern == _TWO_OF_FOUR:
            weights = [weight for weight in weights if weight[0].numel() % 4 == 0]
        if not weights:
            raise NotApplicableError(self.name, f"{spec.architecture} has no layer whose inputs can be divided by four")
        with torch.no_grad():
            for weight in weights:
                zero = two_of_four(weight) if self.pattern == _TWO_OF_FOUR else smallest(weight, int(self.pattern))
                weight.masked_fill_(zero, 0.0)
        return spec, network

    @override
    def learning(self, config: CompressConfig, train: TrainConfig) -> tuple[TrainConfig, Learning]:
        return fine_tuning(config, train)


def smallest(weight: Tensor, percent: int) -> Tensor:
    """The mask of this share of the weights, those of the smallest magnitude."""
    import torch

    zero = torch.zeros(weight.numel(), dtype=torch.bool)
    zero[weight.abs().flatten().argsort()[: round(percent * weight.numel() / 100)]] = True
    return zero.reshape(weight.shape)


def two_of_four(weight: Tensor) -> Tensor:
    """The mask of the two smallest of every four weights along the inputs, which four divides."""
    fours = weight.abs().flatten(1).reshape(-1, 4)
    order = fours.argsort(dim=1).argsort(dim=1)
    return (order < 2).reshape(weight.shape)
