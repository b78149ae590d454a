"""Weights of big linear layers in 4 bits, block by block; activations stay in fp32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from windlass.compression.errors import NotApplicableError
from windlass.compression.methods.method import Compressed, GraphMethod

if TYPE_CHECKING:
    import onnx

    from windlass.compression.config import CompressConfig
    from windlass.compression.methods.method import Array

_BLOCK = 64
"""Inputs that share a scale: 4.6 bits per weight, scale and zero point included."""
_MIN_INPUTS = 256
"""Of a layer. Below that the rounding errors of its few inputs do not average out, and the file gains little."""
_OPSET = 21
"""The first with 4-bit tensors and blocks in DequantizeLinear."""
_LEVELS = 15


@dataclass(frozen=True)
class Int4(GraphMethod):
    """Weight-only int4 of linear layers in ONNX's own operators."""

    form: ClassVar[str] = "int4"
    summary: ClassVar[str] = "weights of linear layers with 256 or more inputs in 4 bits; the rest stays fp32"
    tolerance: ClassVar[float] = 2e-2
    """ONNX Runtime multiplies 4-bit weights in another order for each processor, some with 8-bit activations."""

    @override
    def apply(self, core: onnx.ModelProto, batches: Sequence[Array], config: CompressConfig) -> Compressed:
        return Compressed(quantize_blocks(core))


def quantize_blocks(core: onnx.ModelProto) -> onnx.ModelProto:
    """The core with uint4 weights and a scale and zero point per block of 64 inputs and output, rounded to nearest.

    Written in ONNX's operators alone, so every runtime of opset 21 reads it. ONNX Runtime makes its MatMulNBits of
    each pair of DequantizeLinear and MatMul when it loads the model, and keeps the weights in 4 bits in memory.

    Raises:
        NotApplicableError: no linear layer has 256 inputs in whole blocks.
    """
    import onnx
    from onnx import helper, numpy_helper, version_converter

    opset = next(entry.version for entry in core.opset_import if entry.domain == "")
    packed = onnx.ModelProto()
    packed.CopyFrom(version_converter.convert_version(core, _OPSET) if opset < _OPSET else core)
    graph = packed.graph
    constants = {constant.name: constant for constant in graph.initializer}
    nodes: list[Any] = []
    for node in graph.node:
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        if node.op_type in ("Gemm", "MatMul") and node.input[1] in constants:
            weight_KN = numpy_helper.to_array(constants[node.input[1]])
            weight_KN = weight_KN.T if transposed else weight_KN
            if weight_KN.ndim == 2 and len(weight_KN) >= _MIN_INPUTS and len(weight_KN) % _BLOCK == 0:
                name = f"{node.input[1]}/int4/{len(nodes)}"
                parts = [f"{name}/{part}" for part in ("weight", "scale", "zero")]
                graph.initializer.extend(_tensors(weight_KN, parts))
                nodes.append(helper.make_node("DequantizeLinear", parts, [name], axis=0, block_size=_BLOCK))
                node.input[1] = name
                if transposed:
                    kept = [attribute for attribute in node.attribute if attribute.name != "transB"]
                    del node.attribute[:]
                    node.attribute.extend(kept)
        nodes.append(node)
    if len(nodes) == len(graph.node):
        raise NotApplicableError(Int4.form, f"no linear layer has {_MIN_INPUTS} or more inputs that divide by {_BLOCK}")
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in graph.node for name in node.input}
    for constant in constants.values():
        if constant.name not in used:
            graph.initializer.remove(constant)
    return packed


def _tensors(weight_KN: Array, names: Sequence[str]) -> list[onnx.TensorProto]:
    """The weight as uint4 [K, N], its scales float32 and zero points uint4 [K / 64, N]."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    blocks_BKN = weight_KN.reshape(-1, _BLOCK, weight_KN.shape[1])
    # Zero has to be a level, or a pruned weight would come back.
    lowest_BN = np.minimum(blocks_BKN.min(axis=1), 0)
    scale_BN = (np.maximum(blocks_BKN.max(axis=1), 0) - lowest_BN) / np.float32(_LEVELS)
    scale_BN[scale_BN == 0] = 1
    zero_BN = np.round(-lowest_BN / scale_BN)
    levels_BKN = np.clip(np.round(blocks_BKN / scale_BN[:, None]) + zero_BN[:, None], 0, _LEVELS)
    return [
        helper.make_tensor(names[0], TensorProto.UINT4, weight_KN.shape, _pack(levels_BKN), raw=True),
        numpy_helper.from_array(scale_BN, names[1]),
        helper.make_tensor(names[2], TensorProto.UINT4, zero_BN.shape, _pack(zero_BN), raw=True),
    ]


def _pack(levels: Array) -> bytes:
    """Two levels per byte, the first in the low half."""
    import numpy as np

    flat = levels.astype(np.uint8).reshape(-1)
    flat = np.append(flat, np.zeros(len(flat) % 2, np.uint8))
    return bytes(flat[::2] | flat[1::2] << 4)
