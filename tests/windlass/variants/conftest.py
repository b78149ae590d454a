"""Small real models as variants."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import tiny_models
from windlass.variants import Signature, TensorSpec, Variant

NUMBERS = tiny_models.numbers_signature(("a", "b", "c"), ("no", "yes"))
MIXED = tiny_models.mixed_signature("town")
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


@pytest.fixture
def linear_model() -> onnx.ModelProto:
    return tiny_models.linear_model(np.array([[1, -1], [0.5, 0], [0, 2]], dtype=np.float32))


@pytest.fixture
def mixed_model() -> onnx.ModelProto:
    """Oslo is 10, any other town -1."""
    return tiny_models.mixed_model("town", {"Oslo": 10.0}, unseen=-1.0)


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
            origin=tiny_models.ORIGIN,
        ).write(directory / "variant.json")
        return directory

    return write
