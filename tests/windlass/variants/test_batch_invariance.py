"""The claim of docs/adr/0005-batch-invariance.md, on a small network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from windlass.variants import ColumnSpec, Origin, Signature, TensorSpec, Variant
from windlass.variants.engines import Engine, load_engine

FEATURES, HIDDEN, CLASSES = 16, 64, 10
SIGNATURE = Signature(
    inputs=(TensorSpec(name="input", dtype="float32", shape=(None, FEATURES)),),
    outputs=(TensorSpec(name="probabilities", dtype="float32", shape=(None, CLASSES)),),
    columns=tuple(ColumnSpec(name=f"x{index}", type="number") for index in range(FEATURES)),
    class_names=tuple("0123456789"),
)


def _network() -> onnx.ModelProto:
    random = np.random.default_rng(0)
    shapes = {"first": (FEATURES, HIDDEN), "second": (HIDDEN, CLASSES)}
    weights = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["input", "first"], ["hidden"]),
            helper.make_node("Relu", ["hidden"], ["active"]),
            helper.make_node("MatMul", ["active", "second"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "network",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["B", FEATURES])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["B", CLASSES])],
        [numpy_helper.from_array(weight, name) for name, weight in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def _rows() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(64, FEATURES)).astype(np.float32)


class _Calibration:
    def __init__(self) -> None:
        self._rows: Iterator[np.ndarray] = iter([_rows()])

    def get_next(self) -> dict[str, np.ndarray] | None:
        rows = next(self._rows, None)
        return None if rows is None else {"input": rows}


def _engine(kind: str, directory: Path) -> Engine:
    from onnxruntime import quantization

    source, target = directory / "source.onnx", directory / "model.onnx"
    onnx.save(_network(), source)
    if kind == "fp32":
        source.rename(target)
    elif kind == "static":
        quantization.quantize_static(source, target, _Calibration(), per_channel=True, reduce_range=True)
    else:
        quantization.quantize_dynamic(source, target, per_channel=True, reduce_range=True)
    variant = Variant.model_validate(
        {
            "name": kind,
            "task": "tabular-classification",
            "format": "onnx",
            "engine": "onnxruntime",
            "preprocessing": "graph",
            "signature": SIGNATURE,
            "files": ("model.onnx",),
            "origin": Origin.model_validate({"model": {"uri": "here", "digest": "0"}, "methods": ()}),
        }
    )
    return load_engine(directory, variant, 1)


def _flips_beside(engine: Engine, stranger: float) -> tuple[int, bool]:
    """How many classes change when a row of that value stands beside each row, and whether no bit changes."""
    flips, equal = 0, True
    for row in _rows():
        alone = engine.predict({"input": row[None]})["probabilities"][0]
        outlier = np.full_like(row, stranger)
        beside = engine.predict({"input": np.stack([row, outlier])})["probabilities"][0]
        flips += int(alone.argmax() != beside.argmax())
        equal = equal and np.array_equal(alone, beside)
    return flips, equal


@pytest.mark.parametrize("kind", ["fp32", "static"])
def test_a_stranger_changes_no_bit_of_an_answer_in_fp32_and_static_int8(kind: str, tmp_path: Path) -> None:
    assert _flips_beside(_engine(kind, tmp_path), 1000.0) == (0, True)


def test_a_stranger_changes_answers_in_dynamic_int8(tmp_path: Path) -> None:
    flips, equal = _flips_beside(_engine("dynamic", tmp_path), 1000.0)
    assert flips > 10
    assert not equal
