"""The networks that Windlass brings: linear, mlp, cnn.

Shapes: B examples, D features, C channels, H height, W width, K outputs.
"""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from windlass.models.parameters import CnnParameters, MlpParameters


class RowBatchNorm(nn.BatchNorm1d):
    """Batch norm that takes a single row in training: such a row has no spread, the running one is used.

    The last batch of an epoch may leave one row to a worker.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.training and input.shape[0] == 1:
            return functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return super().forward(input)


def linear(input_shape: tuple[int, ...], num_outputs: int, _parameters: dict[str, Any]) -> nn.Module:
    """[B, D] or [B, C, H, W] to [B, K] by one linear layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(prod(input_shape), num_outputs))


def mlp(input_shape: tuple[int, ...], num_outputs: int, parameters: dict[str, Any]) -> nn.Module:
    """[B, D] or [B, C, H, W] to [B, K] through fully connected layers."""
    options = MlpParameters.model_validate(parameters)
    size = prod(input_shape)
    layers: list[nn.Module] = [nn.Flatten()] if len(input_shape) > 1 else []
    for inputs, outputs in pairwise((size, *options.hidden)):
        layers.append(nn.Linear(inputs, outputs))
        if options.batch_norm:
            layers.append(RowBatchNorm(outputs))
        layers.append(nn.ReLU())
        if options.dropout:
            layers.append(nn.Dropout(options.dropout))
    return _initialized(nn.Sequential(*layers, nn.Linear((size, *options.hidden)[-1], num_outputs)))


def cnn(input_shape: tuple[int, ...], num_outputs: int, parameters: dict[str, Any]) -> nn.Module:
    """[B, C, H, W] to [B, K]: all convolutions but the first halve the image while its smaller side is at least 8."""
    options = CnnParameters.model_validate(parameters)
    channels, height, width = input_shape
    layers: list[nn.Module] = []
    for index, (inputs, outputs) in enumerate(pairwise((channels, *options.channels))):
        layers.append(nn.Conv2d(inputs, outputs, kernel_size=3, padding=1))
        if options.batch_norm:
            layers.append(nn.BatchNorm2d(outputs))
        layers.append(nn.ReLU())
        if index > 0 and min(height, width) >= 8:
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
    size = options.channels[-1] * height * width
    layers.append(nn.Flatten())
    if options.hidden:
        layers += [nn.Linear(size, options.hidden), nn.ReLU()]
        size = options.hidden
    if options.dropout:
        layers.append(nn.Dropout(options.dropout))
    return _initialized(nn.Sequential(*layers, nn.Linear(size, num_outputs)))


def _initialized(network: nn.Sequential) -> nn.Sequential:
    """Weights before a ReLU as He et al. (2015) draw them: few epochs then suffice; the last layer stays as it is."""
    for layer in list(network)[:-1]:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    return network


ARCHITECTURES = {"linear": linear, "mlp": mlp, "cnn": cnn}
