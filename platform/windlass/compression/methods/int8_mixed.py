"""Static int8 that keeps the layers in fp32 whose rounding moves the answers most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from windlass.compression.methods.method import Compressed, GraphMethod

if TYPE_CHECKING:
    import onnx

    from windlass.compression.config import CompressConfig
    from windlass.compression.methods.method import Array


@dataclass(frozen=True)
class Int8Mixed(GraphMethod):
    """Static int8 with the most sensitive layers in fp32."""

    form: ClassVar[str] = "int8-mixed"
    summary: ClassVar[str] = "int8, with the layers in fp32 whose rounding moves the answers most"
    tolerance: ClassVar[float] = 2e-2
    """As of static int8."""

    @override
    def reads(self, config: CompressConfig) -> dict[str, Any]:
        return {"calibration_rows": config.calibration_rows}

    @override
    def apply(self, core: onnx.ModelProto, batches: Sequence[Array], config: CompressConfig) -> Compressed:
        from windlass.compression.methods._mixed import quantize_mixed

        return quantize_mixed(core, batches)
