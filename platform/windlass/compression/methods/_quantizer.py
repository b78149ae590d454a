"""Static int8 by ONNX Runtime's quantizer, in memory: ranges are found once, any layers quantized by them."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

    from windlass.compression.methods.method import Array, Calibration

QUANTIZED = (
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
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""The operators that may have weights."""
_FLOAT_OUTPUT = ["Gemm", "MatMul"]
"""Their outputs are quantized only where the next operator reads them so; logits and numbers stay float."""
_CHUNK_ROWS = 32
"""Every activation of so many rows is in memory at once."""
_NUM_BINS = {"percentile": 2048, "entropy": 256}
"""Entropy tries every width of the histogram in Python, which is quadratic in the bins."""
_KEPT_PERCENT = 99.99
"""Of an activation's values. ONNX Runtime's own default, 99.999, cuts nothing from a few hundred rows."""


@dataclass(frozen=True)
class Ranges:
    """A core with the shapes of its inner values, and between which values each activation lies."""

    core: onnx.ModelProto
    lowest_highest: dict[str, tuple[Array, Array]]


def find_ranges(core: onnx.ModelProto, batches: Sequence[Array], calibration: Calibration = "minmax") -> Ranges:
    """The range of each activation on rows of train.

    `minmax` covers every value; `percentile` cuts 0.01 % of them; `entropy` cuts where the quantized distribution
    is nearest to the real one by Kullback-Leibler divergence (Migacz, "8-bit inference with TensorRT", 2017).
    Memory does not grow with the rows: histograms have a fixed range, found in a first pass.

    Args:
        core: from `features` to the output.
        batches: float32 [B, ...] features of rows of train.
    """
    import onnx
    from onnxruntime.quantization.calibrate import HistogramCollector
    from onnxruntime.quantization.quant_utils import add_infer_metadata

    inferred = onnx.shape_inference.infer_shapes(core)
    add_infer_metadata(inferred)
    ranges: dict[str, tuple[Array, Array]] = {}
    for values in _activations(inferred, batches):
        for name, value in values.items():
            low, high = ranges.get(name, (value.min(), value.max()))
            ranges[name] = min(low, value.min()), max(high, value.max())
    if calibration == "minmax":
        return Ranges(inferred, ranges)
    collector = HistogramCollector(
        method=calibration,
        symmetric=False,
        num_bins=_NUM_BINS[calibration],
        num_quantized_bins=128,
        percentile=_KEPT_PERCENT,
        scenario="same",
    )
    # It prints what it does. Both ends come first, since a histogram that is widened later may grow without bound.
    with contextlib.redirect_stdout(io.StringIO()):
        collector.collect({name: np.array(ends, dtype=np.float32) for name, ends in ranges.items()})
        for values in _activations(inferred, batches):
            collector.collect(values)
        found = collector.compute_collection_result()
    return Ranges(inferred, {name: (result[0], result[1]) for name, result in found.items()})


def quantize(ranges: Ranges, *, in_floats: Collection[str] = ()) -> onnx.ModelProto:
    """The core with int8 weights per channel and uint8 activations, as quantize/dequantize pairs.

    Weights use 7 of their 8 bits (`reduce_range`): without VNNI, x86 adds pairs of 8-bit products in 16 bits and
    saturates, and the same file would answer differently on an older machine.

    Args:
        in_floats: names of nodes that stay as they are.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType, TensorsData

    core = onnx.ModelProto()
    core.CopyFrom(ranges.core)
    quantizer = QDQQuantizer(
        core,
        per_channel=True,
        reduce_range=True,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        # The ranges are taken as they are; the name only says which fields they have.
        tensors_range=TensorsData(CalibrationMethod.MinMax, dict(ranges.lowest_highest)),
        nodes_to_quantize=[],
        nodes_to_exclude=list(in_floats),
        op_types_to_quantize=list(QUANTIZED),
        extra_options={"OpTypesToExcludeOutputQuantization": _FLOAT_OUTPUT},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantized: onnx.ModelProto = quantizer.model.model
    return quantized


@dataclass(frozen=True)
class Layer:
    """A layer with weights and what follows it, up to the next one."""

    name: str
    """Of its weights, as in the network."""
    nodes: tuple[str, ...]
    num_weights: int


def layers(core: onnx.ModelProto) -> list[Layer]:
    """The layers of a core, in the order of the graph; operators before the first one belong to it."""
    sizes = {constant.name: math.prod(constant.dims) for constant in core.graph.initializer}
    found: list[Layer] = []
    before: tuple[str, ...] = ()
    for node in core.graph.node:
        if node.op_type not in QUANTIZED:
            continue
        if node.op_type in WEIGHTED and node.input[1] in sizes:
            name = node.input[1].removesuffix(".weight")
            found.append(Layer(name, (*before, node.name), sizes[node.input[1]]))
            before = ()
        elif found:
            found[-1] = replace(found[-1], nodes=(*found[-1].nodes, node.name))
        else:
            before = (*before, node.name)
    return found


def _activations(core: onnx.ModelProto, batches: Sequence[Array]) -> Iterator[dict[str, Array]]:
    """Every float value inside the core, chunk of rows by chunk."""
    import onnx
    import onnxruntime

    from windlass.compression.preprocess import FEATURES

    opened = onnx.ModelProto()
    opened.CopyFrom(core)
    known = {value.name for value in [*opened.graph.output, *opened.graph.initializer]}
    inner = [
        value
        for value in opened.graph.value_info
        if value.name not in known and value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    ]
    opened.graph.output.extend(inner)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(opened.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    for batch in batches:
        for start in range(0, len(batch), _CHUNK_ROWS):
            rows = batch[start : start + _CHUNK_ROWS]
            values: dict[str, Any] = dict(zip(names, session.run(names, {FEATURES: rows}), strict=True))
            yield {FEATURES: rows, **values}
