"""Which layers of a network int8 hurts most, and the network quantized without them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from windlass.compression.errors import NotApplicableError
from windlass.compression.methods._quantizer import Layer, Ranges, find_ranges, layers, quantize
from windlass.compression.methods.int8_mixed import Int8Mixed
from windlass.compression.methods.method import Compressed
from windlass.variants import IN_FP32_NOTE, SENSITIVITY_NOTE

if TYPE_CHECKING:
    import onnx

    from windlass.compression.methods.method import Array

_JUDGED_ROWS = 256
"""The divergence of so many rows is known within some percent; more rows only take longer."""
_WANTED_SHARE = 0.5
"""Of int8's divergence."""
_MOST_KEPT = 0.5
"""Of the weights in fp32. Beyond that the file is over 2.5 times int8's, and fp16 is smaller and nearer to fp32."""
_MAX_SCANNED = 64
_NEGLIGIBLE = 1e-8
"""A divergence that is no more than float32's own rounding."""


def quantize_mixed(core: onnx.ModelProto, batches: Sequence[Array]) -> Compressed:
    """The core in static int8 but for a few layers, which bring its divergence to half of int8's.

    Layers are quantized one at a time, all others in fp32, to see how far that moves the answers (Pandey et al.,
    "A Practical Mixed Precision Algorithm for Post-Training Quantization", 2023, arXiv:2302.05397); no labels are
    read. They stay in fp32 in the order of that sensitivity per weight, since it is size that fp32 costs. How many do
    is found by bisection: L layers are quantized L + log2(L) times, and neighbours in a network of more than 64 go
    together.

    Args:
        core: from `features` to the output.
        batches: float32 [B, ...] features of rows of train.

    Raises:
        NotApplicableError: there is one layer, int8 moves nothing, or most weights would have to stay in fp32.
    """
    candidates = _together(layers(core))
    if len(candidates) < 2:
        raise NotApplicableError(Int8Mixed.form, "the network has fewer than two layers to choose between")
    scan = _Scan(core, find_ranges(core, batches), _spaced(batches))
    whole = scan.divergence([])
    if whole <= _NEGLIGIBLE:
        raise NotApplicableError(Int8Mixed.form, "int8 moves no answer, so int8 itself is the better candidate")
    sensitivity = {
        layer.name: scan.divergence([other for other in candidates if other is not layer]) for layer in candidates
    }
    order = sorted(candidates, key=lambda layer: -sensitivity[layer.name] / layer.num_weights)
    kept = order[: _fewest(len(order), lambda count: scan.divergence(order[:count]) <= _WANTED_SHARE * whole)]
    if sum(layer.num_weights for layer in kept) > _MOST_KEPT * sum(layer.num_weights for layer in order):
        raise NotApplicableError(
            Int8Mixed.form, f"{len(kept)} of {len(order)} layers, with most of the weights, would have to stay in fp32"
        )
    notes = {f"{SENSITIVITY_NOTE}{layer.name}": float(f"{sensitivity[layer.name]:.3g}") for layer in candidates}
    notes |= {f"{IN_FP32_NOTE}{layer.name}": 1.0 for layer in kept}
    return Compressed(scan.quantized(kept), notes)


def _together(found: list[Layer]) -> list[Layer]:
    """At most 64 layers, neighbours joined in a deeper network, so that the scan stays short."""
    count = math.ceil(len(found) / _MAX_SCANNED)
    groups = [found[start : start + count] for start in range(0, len(found), count or 1)]
    return [
        Layer(
            " to ".join(dict.fromkeys((group[0].name, group[-1].name))),
            tuple(node for layer in group for node in layer.nodes),
            sum(layer.num_weights for layer in group),
        )
        for group in groups
    ]


class _Scan:
    """Quantizes any layers of one core and compares the answers with those of fp32."""

    def __init__(self, core: onnx.ModelProto, ranges: Ranges, features: Array) -> None:
        self._ranges, self._features = ranges, features
        self._wanted = self._answers(core)
        self._power = float(np.square(self._wanted, dtype=np.float64).mean()) or 1.0

    def quantized(self, in_floats: Sequence[Layer]) -> onnx.ModelProto:
        return quantize(self._ranges, in_floats=[node for layer in in_floats for node in layer.nodes])

    def divergence(self, in_floats: Sequence[Layer]) -> float:
        """Noise by signal: the mean squared change of the answers by their mean square."""
        change = self._answers(self.quantized(in_floats)) - self._wanted
        return float(np.square(change, dtype=np.float64).mean()) / self._power

    def _answers(self, core: onnx.ModelProto) -> Array:
        import onnxruntime

        from windlass.compression.preprocess import FEATURES

        session = onnxruntime.InferenceSession(core.SerializeToString(), providers=["CPUExecutionProvider"])
        answers: Array = session.run(None, {FEATURES: self._features})[0]
        return answers


def _fewest(limit: int, suffices: Callable[[int], bool]) -> int:
    """The smallest count up to `limit` that suffices, if more never do worse; `limit` itself always suffices."""
    low, high = 1, limit
    while low < high:
        middle = (low + high) // 2
        if suffices(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _spaced(batches: Sequence[Array]) -> Array:
    rows = np.concatenate(list(batches))
    return rows[:: max(1, len(rows) // _JUDGED_ROWS)][:_JUDGED_ROWS]
