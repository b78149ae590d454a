"""Small real models: built with onnx, run with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from windlass.storage import Reference
from windlass.variants import ColumnSpec, Origin, Signature, TensorSpec, Variant

ORIGIN = Origin(model=Reference(uri="steps/train/k", digest="0" * 64), methods=())
NUMBERS = Signature(
    inputs=(TensorSpec(name="input", dtype="float32", shape=(None, 3)),),
    outputs=(TensorSpec(name="probabilities", dtype="float32", shape=(None, 2)),),
    columns=tuple(ColumnSpec(name=name, type="number") for name in ("a", "b", "c")),
    class_names=("no", "yes"),
)
MIXED = Signature(
    inputs=(
        TensorSpec(name="age", dtype="float32", shape=(None,)),
        TensorSpec(name="town", dtype="string", shape=(None,)),
    ),
    outputs=(TensorSpec(name="value", dtype="float32", shape=(None,)),),
    columns=(ColumnSpec(name="age", type="number"), ColumnSpec(name="town", type="category")),
)
GREY = Signature(
    inputs=(TensorSpec(name="image", dtype="uint8", shape=(None, 2, 3, 1)),),
    outputs=(TensorSpec(name="probabilities", dtype="float32", shape=(None, 2)),),
    class_names=("0", "1"),
)


@pytest.fixture
def numbers() -> Signature:
    return NUMBERS


@pytest.fixture
def mixed() -> Signature:
    return MIXED


@pytest.fixture
def grey() -> Signature:
    return GREY


def linear_graph(weight: np.ndarray) -> onnx.ModelProto:
    """softmax(input @ weight): float32 [B, 3] to [B, 2]."""
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["input", "weight"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "linear",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["B", 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["B", 2])],
        [numpy_helper.from_array(weight, "weight")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.fixture
def linear_model() -> onnx.ModelProto:
    return linear_graph(np.array([[1, -1], [0.5, 0], [0, 2]], dtype=np.float32))


@pytest.fixture
def mixed_model() -> onnx.ModelProto:
    """age if it is known, else 0; plus the town's number: Oslo 10, any other -1."""
    graph = helper.make_graph(
        [
            helper.make_node("IsNaN", ["age"], ["missing"]),
            helper.make_node("Where", ["missing", "zero", "age"], ["known"]),
            helper.make_node(
                "LabelEncoder",
                ["town"],
                ["number"],
                domain="ai.onnx.ml",
                keys_strings=["Oslo"],
                values_floats=[10.0],
                default_float=-1.0,
            ),
            helper.make_node("Add", ["known", "number"], ["value"]),
        ],
        "mixed",
        [
            helper.make_tensor_value_info("age", TensorProto.FLOAT, ["B"]),
            helper.make_tensor_value_info("town", TensorProto.STRING, ["B"]),
        ],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["B"])],
        [numpy_helper.from_array(np.zeros(1, dtype=np.float32), "zero")],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 4)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


WriteVariant = Callable[[onnx.ModelProto, Signature], Path]


@pytest.fixture
def write_variant(tmp_path: Path) -> WriteVariant:
    """Write a model and its variant.json into a new directory."""

    def write(model: onnx.ModelProto, signature: Signature) -> Path:
        directory = tmp_path / f"variant-{len(list(tmp_path.iterdir()))}"
        directory.mkdir()
        (directory / "model.onnx").write_bytes(model.SerializeToString())
        Variant(
            name="fp32",
            task="tabular-classification",
            format="onnx",
            engine="onnxruntime",
            preprocessing="graph",
            signature=signature,
            files=("model.onnx",),
            origin=ORIGIN,
        ).write(directory / "variant.json")
        return directory

    return write
