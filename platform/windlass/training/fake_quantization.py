"""Training with the rounding that int8 will do: Jacob et al. (2018), `Quantization and Training of Neural Networks`.

The weights stay float and are the network's own; what is rounded are copies in each forward pass, and gradients pass
through the rounding as if it were not there. So nothing of it is left in the network that is published.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from windlass.training.step import StepStrategy

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_WEIGHT_STEPS = 64
"""Each way: 7 bits, as int8 candidates have them."""
_ACTIVATION_STEPS = 255
_SMALLEST_SCALE = 1e-8
_CALIBRATE_EVERY_STEPS = 20


class FakeQuantized(nn.Module):
    """The same network, with the weights and inputs of its linear and convolutional layers rounded.

    Weights are rounded per output channel by their own range, inputs per tensor by the range that was calibrated.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.ranges: dict[str, tuple[float, float]] = {}
        """Of each layer's input: lowest and highest."""
        self._calibrating = False
        self._layers = {name: module for name, module in network.named_modules() if isinstance(module, _LAYERS)}
        for name, module in self._layers.items():
            module.register_forward_pre_hook(lambda _, args, name=name: (self._rounded(name, args[0]), *args[1:]))

    def forward(self, inputs: Tensor) -> Tensor:
        weights = {f"{name}.weight".lstrip("."): round_weight(layer.weight) for name, layer in self._layers.items()}
        outputs: Tensor = functional_call(self.network, weights, (inputs,))
        return outputs

    @torch.no_grad()
    def calibrate(self, inputs: Tensor) -> None:
        """Take the ranges that these inputs lead to where nothing is rounded, as calibration of int8 does."""
        was_training = self.network.training
        self.ranges, self._calibrating = {}, True
        self.network.eval()(inputs)
        self.network.train(was_training)
        self._calibrating = False

    def _rounded(self, name: str, inputs: Tensor) -> Tensor:
        if self._calibrating:
            low, high = self.ranges.get(name, (0.0, 0.0))
            self.ranges[name] = min(low, inputs.min().item()), max(high, inputs.max().item())
            return inputs
        return round_activation(inputs.float(), *self.ranges[name]).to(inputs.dtype)


def round_weight(weight: Tensor) -> Tensor:
    """[K, ...] rounded to 129 values per output channel K, from minus to plus the channel's largest."""
    scale_K = weight.detach().flatten(1).abs().amax(dim=1).float().clamp(min=_SMALLEST_SCALE) / _WEIGHT_STEPS
    zero_K = torch.zeros_like(scale_K, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale_K, zero_K, 0, -_WEIGHT_STEPS, _WEIGHT_STEPS)


def round_activation(values: Tensor, low: float, high: float) -> Tensor:
    """Rounded to 256 values from `low` <= 0 to `high` >= 0; zero, which padding is made of, is one of them."""
    scale = max((high - low) / _ACTIVATION_STEPS, _SMALLEST_SCALE)
    zero = min(_ACTIVATION_STEPS, max(0, round(-low / scale)))
    return torch.fake_quantize_per_tensor_affine(values, scale, zero, 0, _ACTIVATION_STEPS)


class RangesCalibrated:
    """Another strategy, with ranges that follow the weights: calibrated anew every 20 steps, the first one included.

    All workers do so with the same rows, those that will calibrate int8.
    """

    def __init__(self, step: StepStrategy, network: FakeQuantized, inputs: Callable[[], Tensor]) -> None:
        """`inputs` gives the network's inputs for the rows that calibrate."""
        self.inner, self.network, self.inputs = step, network, inputs

    def __call__(self, inputs: Tensor, targets_B: Tensor, scale: float, step: int) -> Tensor:
        if step % _CALIBRATE_EVERY_STEPS == 0:
            self.network.calibrate(self.inputs())
        return self.inner(inputs, targets_B, scale, step)

    def state(self) -> dict[str, float]:
        ranges = self.network.ranges
        lows = {f"low.{name}": low for name, (low, _) in ranges.items()}
        return {**self.inner.state(), **lows, **{f"high.{name}": high for name, (_, high) in ranges.items()}}

    def restore(self, state: dict[str, float]) -> None:
        self.inner.restore(state)
        names = [key.removeprefix("low.") for key in state if key.startswith("low.")]
        self.network.ranges = {name: (state[f"low.{name}"], state[f"high.{name}"]) for name in names}
