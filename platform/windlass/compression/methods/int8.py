"""Static int8: scales fixed from rows of train, so that no answer depends on who else is in the batch."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from typing_extensions import override

from windlass.compression.methods.method import GraphMethod

if TYPE_CHECKING:
    import onnx

    from windlass.compression.config import CompressConfig
    from windlass.compression.methods.method import Array

_QUANTIZED = (
    "Add",
    "AveragePool",
    "Conv",
    "ConvTranspose",
    "Flatten",
    "Gemm",
    "GlobalAveragePool",
    "MatMul",
    "MaxPool",
    "Relu",
    "Reshape",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)
"""Everything else, softmax above all, stays float: 256 steps are too few for a probability."""
_FLOAT_OUTPUT = ["Gemm", "MatMul"]
"""Their outputs are quantized only where the next operator reads them so; logits and numbers stay float."""


@dataclass(frozen=True)
class Int8(GraphMethod):
    """Static int8 in quantize/dequantize pairs."""

    form: ClassVar[str] = "int8"
    summary: ClassVar[str] = "weights per channel and activations in 8 bits, scales fixed from rows of train"
    tolerance: ClassVar[float] = 2e-2
    """Another CPU sums floats in another order, which can move an int8 value by one step."""

    @classmethod
    @override
    def parse(cls, name: str) -> Self | None:
        return cls() if name == cls.form else None

    @property
    @override
    def name(self) -> str:
        return self.form

    @override
    def reads(self, config: CompressConfig) -> dict[str, Any]:
        return {"calibration_rows": config.calibration_rows}

    @override
    def apply(self, core: onnx.ModelProto, batches: Sequence[Array], config: CompressConfig) -> onnx.ModelProto:
        return quantize_static(core, batches)


def quantize_static(core: onnx.ModelProto, batches: Sequence[Array]) -> onnx.ModelProto:
    """The core with int8 weights per channel and uint8 activations, as quantize/dequantize pairs.

    Weights use 7 of their 8 bits (`reduce_range`): without VNNI, x86 adds pairs of 8-bit products in 16 bits and
    saturates, and the same file would answer differently on an older machine.

    Args:
        core: from `features` to the output.
        batches: float32 [B, ...] features of rows of train; they fix the activations' ranges.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType
    from onnxruntime.quantization import quantize_static as quantize

    from windlass.compression.preprocess import FEATURES

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.feeds = iter({FEATURES: batch} for batch in batches)

        def get_next(self) -> dict[str, Any] | None:
            return next(self.feeds, None)

    with tempfile.TemporaryDirectory(prefix="windlass-int8-") as folder, _quiet_quantizer():
        source, target = Path(folder) / "core.onnx", Path(folder) / "int8.onnx"
        onnx.save(core, source)
        quantize(
            source,
            target,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_QUANTIZED),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"OpTypesToExcludeOutputQuantization": _FLOAT_OUTPUT},
        )
        return onnx.load(target)


@contextmanager
def _quiet_quantizer() -> Iterator[None]:
    """Without its advice to fold constants first: the exporter has done so."""

    def wanted(record: logging.LogRecord) -> bool:
        return "pre-processing before quantization" not in record.getMessage()

    root = logging.getLogger()
    root.addFilter(wanted)
    try:
        yield
    finally:
        root.removeFilter(wanted)
