"""Small real models, built with onnx: what every test that serves or registers one starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from windlass.storage import Reference
from windlass.variants import ColumnSpec, Origin, Signature, TensorSpec

ORIGIN = Origin(model=Reference(uri="steps/train/k", digest="0" * 64), methods=())


def numbers_signature(columns: Sequence[str], classes: Sequence[str]) -> Signature:
    """float32 [B, F] to probabilities [B, C]."""
    return Signature(
        inputs=(TensorSpec(name="input", dtype="float32", shape=(None, len(columns))),),
        outputs=(TensorSpec(name="probabilities", dtype="float32", shape=(None, len(classes))),),
        columns=tuple(ColumnSpec(name=name, type="number") for name in columns),
        class_names=tuple(classes),
    )


def mixed_signature(category: str) -> Signature:
    """Columns `age` and `category`, a tensor each, to a value [B]."""
    return Signature(
        inputs=(
            TensorSpec(name="age", dtype="float32", shape=(None,)),
            TensorSpec(name=category, dtype="string", shape=(None,)),
        ),
        outputs=(TensorSpec(name="value", dtype="float32", shape=(None,)),),
        columns=(ColumnSpec(name="age", type="number"), ColumnSpec(name=category, type="category")),
    )


def linear_model(weight_FC: np.ndarray) -> onnx.ModelProto:
    """softmax(input @ weight): float32 [B, F] to [B, C]."""
    features, classes = weight_FC.shape
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["input", "weight"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "linear",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["B", features])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["B", classes])],
        [numpy_helper.from_array(weight_FC, "weight")],
    )
    return as_model(graph)


def mixed_model(category: str, numbers: Mapping[str, float], unseen: float) -> onnx.ModelProto:
    """`age` if it is known, else 0; plus the number of the category."""
    graph = helper.make_graph(
        [
            helper.make_node("IsNaN", ["age"], ["missing"]),
            helper.make_node("Where", ["missing", "zero", "age"], ["known"]),
            helper.make_node(
                "LabelEncoder",
                [category],
                ["number"],
                domain="ai.onnx.ml",
                keys_strings=list(numbers),
                values_floats=list(numbers.values()),
                default_float=unseen,
            ),
            helper.make_node("Add", ["known", "number"], ["value"]),
        ],
        "mixed",
        [
            helper.make_tensor_value_info("age", TensorProto.FLOAT, ["B"]),
            helper.make_tensor_value_info(category, TensorProto.STRING, ["B"]),
        ],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["B"])],
        [numpy_helper.from_array(np.zeros(1, dtype=np.float32), "zero")],
    )
    return as_model(graph)


def as_model(graph: onnx.GraphProto) -> onnx.ModelProto:
    """In the version of ONNX that is exported."""
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 4)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)
