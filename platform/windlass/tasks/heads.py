"""From a network's outputs to the answers that are served. Part of the exported graph."""

from __future__ import annotations

from torch import Tensor, nn


class Probabilities(nn.Module):
    """Logits [B, C] to probabilities [B, C]."""

    def forward(self, outputs_BC: Tensor) -> Tensor:
        return outputs_BC.softmax(dim=1)


class Value(nn.Module):
    """A standardized number [B, 1] to the number in its own unit [B]."""

    def __init__(self, mean: float, scale: float) -> None:
        super().__init__()
        self.mean, self.scale = mean, scale

    def forward(self, outputs_B1: Tensor) -> Tensor:
        return outputs_B1.squeeze(1) * self.scale + self.mean
