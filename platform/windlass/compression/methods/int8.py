"""Static int8: scales fixed from rows of train, so that no answer depends on who else is in the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from windlass.compression.methods.method import Calibration, Compressed, GraphMethod

if TYPE_CHECKING:
    import onnx

    from windlass.compression.config import CompressConfig
    from windlass.compression.methods.method import Array


@dataclass(frozen=True)
class Int8(GraphMethod):
    """Static int8 in quantize/dequantize pairs."""

    form: ClassVar[str] = "int8"
    summary: ClassVar[str] = "weights per channel and activations in 8 bits, scales fixed from rows of train"
    calibration: ClassVar[Calibration] = "minmax"
    tolerance: ClassVar[float] = 2e-2
    """Another CPU sums floats in another order, which can move an int8 value by one step."""

    @override
    def reads(self, config: CompressConfig) -> dict[str, Any]:
        return {"calibration_rows": config.calibration_rows}

    @override
    def apply(self, core: onnx.ModelProto, batches: Sequence[Array], config: CompressConfig) -> Compressed:
        return Compressed(quantize_static(core, batches, self.calibration))


def quantize_static(
    core: onnx.ModelProto, batches: Sequence[Array], calibration: Calibration = "minmax"
) -> onnx.ModelProto:
    """The core in static int8; see `find_ranges` and `quantize`."""
    from windlass.compression.methods._quantizer import find_ranges, quantize

    return quantize(find_ranges(core, batches, calibration))
