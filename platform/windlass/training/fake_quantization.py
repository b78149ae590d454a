"""Training with the rounding that int8 will do: Jacob et al. (2018), `Quantization and Training of Neural Networks`.

The weights stay float and are the network's own; what is rounded are copies in each forward pass, and gradients pass
through the rounding as if it were not there. So nothing of it is left in the network that is published.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from windlass.training.step import StepStrategy
from windlass.training.workers import Workers

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_WEIGHT_STEPS = 64
"""Each way: 7 bits, as int8 candidates have them."""
_ACTIVATION_STEPS = 255
_SMALLEST_SCALE = 1e-8
_KEPT = 0.9
"""Of a range, when the next batch's is averaged in."""


class FakeQuantized(nn.Module):
    """The same network, with the weights and inputs of its linear and convolutional layers rounded.

    Weights are rounded per output channel by their own range, inputs per tensor by the range that training has seen.
    Until a range has been seen, which the first step of a training does, inputs pass as they are.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.ranges: dict[str, tuple[float, float]] = {}
        """Of each layer's input: lowest and highest."""
        self.seen: dict[str, Tensor] = {}
        """Of the last batch: minus the lowest, and the highest."""
        self._layers = {name: module for name, module in network.named_modules() if isinstance(module, _LAYERS)}
        for name, module in self._layers.items():
            module.register_forward_pre_hook(lambda _, args, name=name: (self._rounded(name, args[0]), *args[1:]))

    def forward(self, inputs: Tensor) -> Tensor:
        weights = {f"{name}.weight".lstrip("."): round_weight(layer.weight) for name, layer in self._layers.items()}
        outputs: Tensor = functional_call(self.network, weights, (inputs,))
        return outputs

    def _rounded(self, name: str, inputs: Tensor) -> Tensor:
        if self.network.training:
            values = inputs.detach().float()
            self.seen[name] = torch.stack([-values.amin(), values.amax()])
        if name not in self.ranges:
            return inputs
        return round_activation(inputs.float(), *self.ranges[name]).to(inputs.dtype)


def round_weight(weight: Tensor) -> Tensor:
    """[K, ...] rounded to 129 values per output channel K, from minus to plus the channel's largest."""
    scale_K = weight.detach().flatten(1).abs().amax(dim=1).float().clamp(min=_SMALLEST_SCALE) / _WEIGHT_STEPS
    zero_K = torch.zeros_like(scale_K, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale_K, zero_K, 0, -_WEIGHT_STEPS, _WEIGHT_STEPS)


def round_activation(values: Tensor, low: float, high: float) -> Tensor:
    """Rounded to 256 values from `low` to `high`; zero, which padding is made of, is one of them."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / _ACTIVATION_STEPS, _SMALLEST_SCALE)
    zero = min(_ACTIVATION_STEPS, max(0, round(-low / scale)))
    return torch.fake_quantize_per_tensor_affine(values, scale, zero, 0, _ACTIVATION_STEPS)


class RangesObserved:
    """Another strategy, after each of whose updates all workers take up the ranges of the whole batch.

    Ranges are moving averages, so that one odd batch does not coarsen the steps of all that follow.
    """

    def __init__(self, step: StepStrategy, network: FakeQuantized, workers: Workers) -> None:
        self.inner, self.network, self.workers = step, network, workers

    def __call__(self, inputs: Tensor, targets_B: Tensor, scale: float, step: int) -> Tensor:
        loss = self.inner(inputs, targets_B, scale, step)
        ranges, seen = self.network.ranges, self.network.seen
        if not seen:
            return loss
        bounds = self.workers.max(torch.cat(list(seen.values())).tolist())
        for index, name in enumerate(seen):
            low, high = -bounds[2 * index], bounds[2 * index + 1]
            before_low, before_high = ranges.get(name, (low, high))
            ranges[name] = (
                _KEPT * before_low + (1 - _KEPT) * low,
                _KEPT * before_high + (1 - _KEPT) * high,
            )
        return loss

    def state(self) -> dict[str, float]:
        ranges = self.network.ranges
        lows = {f"low.{name}": low for name, (low, _) in ranges.items()}
        return {**self.inner.state(), **lows, **{f"high.{name}": high for name, (_, high) in ranges.items()}}

    def restore(self, state: dict[str, float]) -> None:
        self.inner.restore(state)
        names = [key.removeprefix("low.") for key in state if key.startswith("low.")]
        self.network.ranges = {name: (state[f"low.{name}"], state[f"high.{name}"]) for name in names}
