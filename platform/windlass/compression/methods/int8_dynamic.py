"""Dynamic int8 of linear layers: activations get their scale from each batch, so an answer depends on its batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

from windlass.compression.errors import NotApplicableError
from windlass.compression.methods.method import Compressed, GraphMethod

if TYPE_CHECKING:
    import onnx

    from windlass.compression.config import CompressConfig
    from windlass.compression.methods.method import Array


@dataclass(frozen=True)
class Int8Dynamic(GraphMethod):
    """Linear layers with int8 weights and activations quantized while they answer."""

    form: ClassVar[str] = "int8-dynamic"
    summary: ClassVar[str] = "linear layers in 8 bits, activations scaled per batch: answers depend on the batch"
    tolerance: ClassVar[float] = 2e-2
    """As of static int8: a value at the edge of a step may fall on the other side."""

    @override
    def apply(self, core: onnx.ModelProto, batches: Sequence[Array], config: CompressConfig) -> Compressed:
        return Compressed(quantize_dynamic(core))


def quantize_dynamic(core: onnx.ModelProto) -> onnx.ModelProto:
    """The core with int8 weights per channel in its linear layers.

    Convolutions stay in fp32: ONNX Runtime's ConvInteger is slower than its float convolution. Weights use 7 of their
    8 bits, as in static int8.

    Raises:
        NotApplicableError: the network has no linear layer.
    """
    import onnx
    from onnxruntime.quantization import QuantizationMode, QuantType
    from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
    from onnxruntime.quantization.quant_utils import add_infer_metadata

    inferred = onnx.shape_inference.infer_shapes(core)
    add_infer_metadata(inferred)
    quantizer = ONNXQuantizer(
        inferred,
        per_channel=True,
        reduce_range=True,
        mode=QuantizationMode.IntegerOps,
        static=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=None,
        nodes_to_quantize=[],
        nodes_to_exclude=[],
        op_types_to_quantize=["MatMul"],  # a Gemm becomes one, and an Add
        extra_options={"MatMulConstBOnly": True},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantized: onnx.ModelProto = quantizer.model.model
    if not any(node.op_type == "MatMulInteger" for node in quantized.graph.node):
        raise NotApplicableError(Int8Dynamic.form, "the network has no linear layer")
    return quantized
