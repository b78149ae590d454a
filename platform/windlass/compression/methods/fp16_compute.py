"""Half precision in the arithmetic too: for GPUs, which multiply it several times faster than fp32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from windlass.compression.errors import NotApplicableError
from windlass.compression.methods.method import Compressed, GraphMethod

if TYPE_CHECKING:
    import onnx

    from windlass.compression.config import CompressConfig
    from windlass.compression.methods.method import Array


@dataclass(frozen=True)
class Fp16Compute(GraphMethod):
    """Weights and activations as float16 up to the last layer's output; what follows it stays float32."""

    form: ClassVar[str] = "fp16-compute"
    summary: ClassVar[str] = "weights and arithmetic in 16 bits: half the file; fast on a GPU, no faster on a CPU"
    tolerance: ClassVar[float] = 1e-2
    """Half precision has 11 bits; a CPU and a GPU round to them at other places."""

    @override
    def reads(self, config: CompressConfig) -> dict[str, Any]:
        return {"calibration_rows": config.calibration_rows}

    @override
    def apply(self, core: onnx.ModelProto, batches: Sequence[Array], config: CompressConfig) -> Compressed:
        from windlass.compression.methods._quantizer import find_ranges, layers

        if not layers(core):
            raise NotApplicableError(self.form, "the network has no layer with weights")
        after = _after_layers(core)
        _check_range(core, after, find_ranges(core, batches).lowest_highest)
        return Compressed(_in_halves(core, after))


def _in_halves(core: onnx.ModelProto, in_floats: Sequence[str]) -> onnx.ModelProto:
    """The core in float16 by ONNX Runtime's converter, but for some nodes; it still takes and gives float32."""
    import onnx
    from onnxruntime.quantization.onnx_model import ONNXModel
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copied = onnx.ModelProto()
    copied.CopyFrom(core)
    halved = ONNXModel(convert_float_to_float16(copied, keep_io_types=True, node_block_list=list(in_floats)))
    _join_floats(halved.model.graph)
    halved.topological_sort()  # it appends its casts
    model: onnx.ModelProto = halved.model
    return model


def _join_floats(graph: onnx.GraphProto) -> None:
    """Take out the casts to float16 and back that the converter puts after each operator that stays in float32."""
    from onnx import TensorProto

    def casts_to(node: onnx.NodeProto | None, kind: int) -> bool:
        return node is not None and node.op_type == "Cast" and node.attribute[0].i == kind

    makers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        while casts_to(node, TensorProto.FLOAT) and casts_to(makers.get(node.input[0]), TensorProto.FLOAT16):
            node.input[0] = makers[node.input[0]].input[0]
    read = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    for node in [node for node in graph.node if casts_to(node, TensorProto.FLOAT16) and node.output[0] not in read]:
        graph.node.remove(node)


def _after_layers(core: onnx.ModelProto) -> list[str]:
    """Names of the nodes whose results reach no layer with weights.

    They stay in float32: a softmax would lose its small probabilities, and a number in its own unit may be too large.
    """
    from windlass.compression.methods._quantizer import WEIGHTED

    weights = {constant.name for constant in core.graph.initializer}
    read_by_layers: set[str] = set()
    after = []
    for node in reversed(core.graph.node):
        is_layer = node.op_type in WEIGHTED and node.input[1] in weights
        if is_layer or read_by_layers.intersection(node.output):
            read_by_layers.update(node.input)
        else:
            after.append(node.name)
    return after


def _check_range(core: onnx.ModelProto, in_floats: Sequence[str], ranges: Mapping[str, tuple[Array, Array]]) -> None:
    """Refuse what float16 cannot hold: the converter would cut weights off, and activations would become infinite."""
    import numpy as np
    from onnx import TensorProto, numpy_helper

    values = {name: np.array(ends) for name, ends in ranges.items()}
    values |= {
        constant.name: numpy_helper.to_array(constant)
        for constant in core.graph.initializer
        if constant.data_type == TensorProto.FLOAT
    }
    halved = [node for node in core.graph.node if node.name not in in_floats]
    limit = float(np.finfo(np.float16).max)
    for name in {name for node in halved for name in (*node.input, *node.output)} & values.keys():
        largest = float(np.abs(values[name]).max(initial=0.0))
        if largest > limit:
            raise NotApplicableError(
                Fp16Compute.form, f"{name} reaches {largest:,.0f}, and float16 ends at {limit:,.0f}"
            )
