"""Less of everything in an ONNX file that is not weights: half of a small int8 model is names and notes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

_DIGITS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

_WINDOWED = ("AveragePool", "Conv", "ConvTranspose", "MaxPool")
_WINDOW_DEFAULTS = {"dilations": 1, "strides": 1, "pads": 0}
"""Of these operators, along each axis; the schema states them in words only."""


def slim(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph without metadata, notes, shapes of inner values, long names and what operators do by themselves.

    It answers bit by bit the same. Zero points of 0 could go by ONNX's rules, but without those of weights and
    activations ONNX Runtime no longer recognizes quantized layers and computes in fp32; only those of biases go.
    """
    slimmed = type(model)()
    slimmed.CopyFrom(model)
    graph = slimmed.graph
    for field in ("doc_string", "producer_version", "domain"):
        slimmed.ClearField(field)
    slimmed.producer_name = "windlass"
    _clear(slimmed, "metadata_props")
    _clear(graph, "metadata_props", "doc_string", "value_info", "quantization_annotation")
    for value in [*graph.input, *graph.output, *graph.initializer]:
        _clear(value, "metadata_props", "doc_string")
    opsets = {opset.domain: opset.version for opset in slimmed.opset_import}
    for node in graph.node:
        _clear(node, "metadata_props", "doc_string", "name", "overload")
        for attribute in node.attribute:
            attribute.ClearField("doc_string")
        _drop_defaults(node, opsets[node.domain])
    if not _has_bodies(graph):
        _drop_bias_zero_points(graph)
        _merge_equal_constants(graph)
        _rename(graph)
        _drop_unused_opsets(slimmed)
    return slimmed


def _drop_defaults(node: onnx.NodeProto, opset: int) -> None:
    """Drop attributes whose value is the operator's default, half of what a convolution says."""
    import onnx

    if not onnx.defs.has(node.op_type, opset, node.domain):
        return
    known = onnx.defs.get_schema(node.op_type, opset, node.domain).attributes

    def is_default(attribute: onnx.AttributeProto) -> bool:
        if node.op_type in _WINDOWED and attribute.name in _WINDOW_DEFAULTS:
            return set(attribute.ints) == {_WINDOW_DEFAULTS[attribute.name]}
        return attribute.name in known and known[attribute.name].default_value == attribute

    kept = [attribute for attribute in node.attribute if not is_default(attribute)]
    del node.attribute[:]
    node.attribute.extend(kept)


def _has_bodies(graph: Any) -> bool:
    """Whether a loop or a branch has a graph of its own, which names values of this one."""
    return any(attribute.HasField("g") or attribute.graphs for node in graph.node for attribute in node.attribute)


def _clear(message: Any, *fields: str) -> None:
    for field in fields:
        message.ClearField(field)


def _drop_bias_zero_points(graph: Any) -> None:
    """Of int32 values, which biases are, a zero point is 0 by ONNX's definition; left out, it means the same."""
    import onnx

    biases = {constant.name for constant in graph.initializer if constant.data_type == onnx.TensorProto.INT32}
    dropped = set()
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and len(node.input) == 3 and node.input[0] in biases:
            dropped.add(node.input.pop())
    used = {name for node in graph.node for name in node.input}
    for constant in list(graph.initializer):
        if constant.name in dropped - used:
            graph.initializer.remove(constant)


def _merge_equal_constants(graph: Any) -> None:
    """Keep one of constants that are equal: scales and zero points repeat at both ends of a value."""
    kept: dict[bytes, str] = {}
    alias: dict[str, str] = {}
    for constant in list(graph.initializer):
        name = constant.name
        constant.ClearField("name")
        content = constant.SerializeToString(deterministic=True)
        constant.name = name
        if content in kept:
            alias[name] = kept[content]
            graph.initializer.remove(constant)
        else:
            kept[content] = name
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = alias.get(name, name)


def _rename(graph: Any) -> None:
    """Short names for inner values; inputs and outputs keep theirs."""
    kept = {value.name for value in [*graph.input, *graph.output]}
    fresh = (name for name in _short_names() if name not in kept)
    renamed: dict[str, str] = {name: name for name in kept} | {"": ""}

    def short(name: str) -> str:
        if name not in renamed:
            renamed[name] = next(fresh)
        return renamed[name]

    for constant in graph.initializer:
        constant.name = short(constant.name)
    for node in graph.node:
        node.input[:] = [short(name) for name in node.input]
        node.output[:] = [short(name) for name in node.output]


def _short_names() -> Iterator[str]:
    yield from _DIGITS
    for prefix in _short_names():
        for digit in _DIGITS:
            yield prefix + digit


def _drop_unused_opsets(model: onnx.ModelProto) -> None:
    used = {node.domain for node in model.graph.node} | {""}
    for opset in list(model.opset_import):
        if opset.domain not in used:
            model.opset_import.remove(opset)
