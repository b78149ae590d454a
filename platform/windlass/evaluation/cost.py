"""What a candidate costs beside time and memory: bytes to carry, work in its graph, energy, money."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from windlass.evaluation.config import EvaluateConfig
from windlass.evaluation.documents import Consumption, Cost, Energy, Measurement

Array = np.ndarray[Any, np.dtype[Any]]

MODEL_ERROR = 0.5
"""Of energy from busy time: a core under load takes about 5 W in a laptop and 15 W in a server, the default is 10."""
_GZIP = 31
_CHUNK_BYTES = 1 << 20

_CONVOLUTIONS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3, "FusedConv": 1}
"""Operators to the place of the weight [M, C/groups, ...] among their inputs."""
_PRODUCTS = {"MatMul", "Gemm", "MatMulInteger", "QLinearMatMul", "QGemm", "FusedMatMul", "FusedGemm", "MatMulNBits"}
"""Operators whose first input [..., K] is multiplied with a matrix."""
_SCALES = {
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "QGemm": (1, 2, 4, 5, 7, 8),
    "MatMulInteger": (2, 3),
    "ConvInteger": (2, 3),
    "MatMulNBits": (2, 3),
}
"""Operators to the places of scales and zero points, which are no parameters."""
_ZERO_POINTS = {
    "DequantizeLinear": (0, 2),
    "MatMulInteger": (1, 3),
    "ConvInteger": (1, 3),
    "QLinearConv": (3, 5),
    "QLinearMatMul": (3, 5),
    "QGemm": (3, 5),
}
"""Operators to the places of a weight and of the integer that stands for its zero."""


def compressed_bytes(paths: Sequence[Path]) -> int:
    """Bytes of files as gzip packs them at its usual level 6, as registries and web servers do."""
    total = 0
    for path in paths:
        packer = zlib.compressobj(level=6, wbits=_GZIP)
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                total += len(packer.compress(chunk))
        total += len(packer.flush())
    return total


def graph_cost(path: Path, row: Mapping[str, Array]) -> tuple[int, int, int]:
    """Parameters, those that are not zero, and the MACs of one row.

    Shapes are taken from a run on the row: operators of ONNX Runtime's own have no shape inference in `onnx`. Nested
    graphs (If, Loop) are not looked into.

    Args:
        path: an ONNX file that an engine has loaded, and so checked.
        row: the graph's inputs at batch 1.
    """
    import onnx

    model = onnx.load_model(path, load_external_data=False)
    weights = dict(_weights(model.graph))
    parameters = sum(values.size for values in weights.values())
    return parameters, sum(int(np.count_nonzero(values)) for values in weights.values()), _macs(model, row)


def _weights(graph: Any) -> Iterator[tuple[str, Array]]:
    """The initializers that are learned numbers, a quantized one less its zero point."""
    from onnx import TensorProto, numpy_helper

    # Axes and shapes are int64, vocabularies are strings.
    ignored = {TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING}
    scales = {
        name for node in graph.node for index, name in enumerate(node.input) if index in _SCALES.get(node.op_type, ())
    }
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    zero_points = {
        node.input[places[0]]: (tensors[node.input[places[1]]], node)
        for node in graph.node
        if (places := _ZERO_POINTS.get(node.op_type))
        and len(node.input) > places[1]
        and node.input[places[1]] in tensors
    }
    for name, tensor in tensors.items():
        if name in scales or tensor.data_type in ignored:
            continue
        values = numpy_helper.to_array(tensor)
        if name in zero_points and values.ndim:
            zero, node = zero_points[name]
            values = values.astype(np.int64) - _along_axis(numpy_helper.to_array(zero), node, values.ndim)
        yield name, values


def _along_axis(zero: Array, node: Any, ndim: int) -> Array:
    """Zero points [M] of the slices along the node's axis, so that they can be taken from a tensor of `ndim` axes."""
    zero = zero.astype(np.int64)
    if zero.size == 1:
        return zero.reshape(())
    numbers = {attribute.name: attribute.i for attribute in node.attribute}
    axis = {
        "DequantizeLinear": numbers.get("axis", 1),
        "ConvInteger": 0,
        "QLinearConv": 0,
        "QGemm": 1 - numbers.get("transB", 0),
    }.get(node.op_type, ndim - 1)
    shape = [1] * ndim
    shape[axis] = zero.size
    return zero.reshape(shape)


def _macs(model: Any, row: Mapping[str, Array]) -> int:
    nodes = [node for node in model.graph.node if node.op_type in _CONVOLUTIONS or node.op_type in _PRODUCTS]
    shapes = _shapes(model, nodes, row)
    total = 0
    for node in nodes:
        answers = math.prod(shapes[node.output[0]])
        if node.op_type in _CONVOLUTIONS:
            weight = shapes[node.input[_CONVOLUTIONS[node.op_type]]]
            total += answers * math.prod(weight[1:])
        else:
            transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
            total += answers * shapes[node.input[0]][0 if transposed else -1]
    return total


def _shapes(model: Any, nodes: Sequence[Any], row: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
    """Of the inputs and outputs of some nodes, when the graph answers one row."""
    import onnxruntime
    from onnx import ValueInfoProto

    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    shapes |= {name: tensor.shape for name, tensor in row.items()}
    wanted = {name for node in nodes for name in (*node.input, *node.output) if name and name not in shapes}
    model.graph.ClearField("output")
    model.graph.output.extend(ValueInfoProto(name=name) for name in sorted(wanted))
    if not wanted:
        return shapes
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = session.run(sorted(wanted), dict(row))
    return shapes | {name: tensor.shape for name, tensor in zip(sorted(wanted), found, strict=True)}


def priced(measurement: Measurement, config: EvaluateConfig) -> Measurement:
    """With the energy that follows from watts where nothing counted it, and the price of 1,000 rows.

    On a GPU there is no energy: the processor counts its own, which is the smaller part.
    """
    on_gpu = measurement.device != "cpu"
    rows_per_s = {latency.batch_size: latency.rows_per_s for latency in measurement.latency}
    consumed = tuple(
        spent.model_copy(
            update={
                "energy": None if on_gpu else spent.energy or _energy_of_busy_time(spent, config),
                "price": _price(rows_per_s[spent.batch_size], config),
            }
        )
        for spent in measurement.cost.per_1000_rows
    )
    cost: Cost = measurement.cost.model_copy(update={"per_1000_rows": consumed})
    return measurement.model_copy(update={"cost": cost})


def _energy_of_busy_time(spent: Consumption, config: EvaluateConfig) -> Energy:
    return Energy(joules=spent.cpu_s * config.watts_per_core, method="model", relative_error=MODEL_ERROR)


def _price(rows_per_s: float, config: EvaluateConfig) -> float | None:
    return None if config.price_per_hour is None else config.price_per_hour / 3600 * 1000 / rows_per_s
