"""The declared preprocessing as an ONNX graph: raw columns or pixels in, the network's features out.

Shapes: B rows, F columns, N number columns, D features, H, W, C of images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from windlass.data.description import CategoryTransform, DatasetDescription, NumberTransform, PixelsTransform
from windlass.variants.signature import Signature, TensorSpec

if TYPE_CHECKING:
    import onnx

FEATURES = "features"
_ML_DOMAIN = "ai.onnx.ml"
_ML_OPSET = 3


def preprocessing_graph(
    description: DatasetDescription, signature: Signature, *, opset: int, ir_version: int
) -> onnx.ModelProto:
    """A graph from the signature's inputs to `features`: float32 [B, D] for tables, [B, C, H, W] for images."""
    from onnx import TensorProto, helper

    graph = _Graph()
    if description.modality == "images":
        shape: tuple[int, ...] = _scale_pixels(graph, description, signature.inputs[0].name)
    else:
        shape = (_encode_columns(graph, description, signature),)
    output = helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, ["batch", *shape])
    made = helper.make_graph(
        graph.nodes, "preprocessing", [_value_info(spec) for spec in signature.inputs], [output], graph.constants
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(_ML_DOMAIN, _ML_OPSET)]
    return helper.make_model(made, opset_imports=opsets, ir_version=ir_version)


@dataclass
class _Graph:
    """Nodes and constants under construction; every value inside it begins with `pre/`."""

    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def add(
        self, operator: str, inputs: Sequence[str], *, output: str = "", domain: str = "", **attributes: Any
    ) -> str:
        from onnx import helper

        name = output or f"pre/{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], domain=domain, **attributes))
        return name

    def constant(self, values: Any, dtype: type[np.generic]) -> str:
        from onnx import numpy_helper

        name = f"pre/constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(values, dtype), name))
        return name


def _value_info(spec: TensorSpec) -> Any:
    from onnx import TensorProto, helper

    types = {
        "float32": TensorProto.FLOAT,
        "int64": TensorProto.INT64,
        "uint8": TensorProto.UINT8,
        "string": TensorProto.STRING,
    }
    shape = ["batch" if axis == 0 else length for axis, length in enumerate(spec.shape)]
    return helper.make_tensor_value_info(spec.name, types[spec.dtype], shape)


def _scale_pixels(graph: _Graph, description: DatasetDescription, image: str) -> tuple[int, int, int]:
    from onnx import TensorProto

    (transform,) = description.transforms
    assert isinstance(transform, PixelsTransform)
    assert description.image_shape is not None
    height, width, channels = description.image_shape
    pixels = graph.add("Transpose", [image], perm=[0, 3, 1, 2])
    pixels = graph.add("Cast", [pixels], to=TensorProto.FLOAT)
    mean_C, std_C = np.array(transform.mean), np.array(transform.std)
    scale = graph.constant((1 / (255 * std_C)).reshape(-1, 1, 1), np.float32)
    shift = graph.constant((-mean_C / std_C).reshape(-1, 1, 1), np.float32)
    graph.add("Add", [graph.add("Mul", [pixels, scale]), shift], output=FEATURES)
    return channels, height, width


def _encode_columns(graph: _Graph, description: DatasetDescription, signature: Signature) -> int:
    """Encode number columns as one matrix and category columns one by one, then put features in declared order."""
    numbers = [transform for transform in description.transforms if isinstance(transform, NumberTransform)]
    categories = [transform for transform in description.transforms if isinstance(transform, CategoryTransform)]
    blocks: list[str] = []
    made: list[tuple[str, int]] = []
    if numbers:
        raw_BN = _number_matrix(graph, numbers, signature)
        blocks += _scale_numbers(graph, raw_BN, numbers)
        made += [(number.column, 0) for number in numbers]
        made += [(number.column, 1) for number in numbers if number.missing_indicator]
    for category in categories:
        width = len(category.vocabulary) + category.other
        if width:
            blocks.append(_one_hot(graph, category, width))
            made += [(category.column, index) for index in range(width)]
    position = {feature: index for index, feature in enumerate(made)}
    order = [
        position[transform.column, index]
        for transform in description.transforms
        for index in range(_width(transform))
        if not isinstance(transform, PixelsTransform)
    ]
    _in_order(graph, blocks, order)
    return len(order)


def _width(transform: NumberTransform | CategoryTransform | PixelsTransform) -> int:
    if isinstance(transform, NumberTransform):
        return 1 + transform.missing_indicator
    if isinstance(transform, CategoryTransform):
        return len(transform.vocabulary) + transform.other
    return 0


def _number_matrix(graph: _Graph, numbers: Sequence[NumberTransform], signature: Signature) -> str:
    """The number columns as float32 [B, N], in the order of their transforms."""
    if len(signature.inputs) == 1 and len(signature.inputs[0].shape) == 2:
        assert signature.columns is not None
        position = {column.name: index for index, column in enumerate(signature.columns)}
        order = [position[number.column] for number in numbers]
        matrix = signature.inputs[0].name
        if order == list(range(len(position))):
            return matrix
        return graph.add("Gather", [matrix, graph.constant(order, np.int64)], axis=1)
    axes = graph.constant([1], np.int64)
    columns = [graph.add("Unsqueeze", [number.column, axes]) for number in numbers]
    return graph.add("Concat", columns, axis=1)


def _scale_numbers(graph: _Graph, raw_BN: str, numbers: Sequence[NumberTransform]) -> list[str]:
    """(x - mean) / scale with 0 where missing, and the indicators of what was missing: float32, as in training."""
    from onnx import TensorProto

    missing_BN = graph.add("IsNaN", [raw_BN])
    mean_N = graph.constant([number.mean for number in numbers], np.float32)
    scale_N = graph.constant([number.scale for number in numbers], np.float32)
    filled_BN = graph.add("Where", [missing_BN, mean_N, raw_BN])
    blocks = [graph.add("Div", [graph.add("Sub", [filled_BN, mean_N]), scale_N])]
    indicated = [index for index, number in enumerate(numbers) if number.missing_indicator]
    if indicated:
        flags_BN = graph.add("Cast", [missing_BN], to=TensorProto.FLOAT)
        if len(indicated) < len(numbers):
            flags_BN = graph.add("Gather", [flags_BN, graph.constant(indicated, np.int64)], axis=1)
        blocks.append(flags_BN)
    return blocks


def _one_hot(graph: _Graph, category: CategoryTransform, width: int) -> str:
    """One output per value; an unknown value gets the index after the last, which is `other` or outside: all zeros."""
    index_B = graph.add(
        "LabelEncoder",
        [category.column],
        domain=_ML_DOMAIN,
        keys_strings=list(category.vocabulary) or ["\0"],
        values_int64s=list(range(len(category.vocabulary))) or [0],
        default_int64=len(category.vocabulary),
    )
    depth = graph.constant([width], np.int64)
    off_on = graph.constant([0, 1], np.float32)
    return graph.add("OneHot", [index_B, depth, off_on], axis=1)


def _in_order(graph: _Graph, blocks: Sequence[str], order: list[int]) -> None:
    joined = blocks[0] if len(blocks) == 1 else graph.add("Concat", blocks, axis=1)
    if order == list(range(len(order))):
        graph.add("Identity", [joined], output=FEATURES)
    else:
        graph.add("Gather", [joined, graph.constant(order, np.int64)], axis=1, output=FEATURES)
