"""From pixels to what a network for images expects. Part of the trainer and of the exported graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PixelScaling(nn.Module):
    """uint8 [B, H, W, C] to float32 [B, C, H, W]: (x / 255 - mean) / std, each per channel."""

    factor: Tensor
    """[C, 1, 1]"""
    offset: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        mean_C = torch.tensor(mean, dtype=torch.float64)
        std_C = torch.tensor(std, dtype=torch.float64)
        factor_C, offset_C = 1 / (255 * std_C), -mean_C / std_C
        self.register_buffer("factor", factor_C.float().reshape(-1, 1, 1), persistent=False)
        self.register_buffer("offset", offset_C.float().reshape(-1, 1, 1), persistent=False)

    def forward(self, pixels_BHWC: Tensor) -> Tensor:
        pixels_BCHW = pixels_BHWC.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        return pixels_BCHW * self.factor + self.offset
