from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from onnx import TensorProto, helper, numpy_helper

from windlass.data.bundle import BundleWriter
from windlass.data.description import DATASET_NAME, Column, DatasetDescription, NumberTransform, SplitName
from windlass.storage import Reference
from windlass.variants.signature import ColumnSpec, Signature, TensorSpec
from windlass.variants.variant import VARIANT_NAME, Origin, Variant

REFERENCE = Reference(uri="nowhere", digest="0" * 64)
CLASSES = ("no", "maybe", "yes")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Three classes from two numbers, 80 rows of validation, 70 of test."""
    rng = np.random.default_rng(0)
    directory = tmp_path / "bundle"
    directory.mkdir()
    counts: dict[SplitName, int] = {"train": 100, "validation": 80, "test": 70}
    tables = {}
    for split, count in counts.items():
        target = rng.integers(0, 3, count)
        noise = rng.normal(size=(count, 2))
        columns = {"file": target + noise[:, 0] / 2, "names": noise[:, 1], "target": target.astype(np.int64)}
        tables[split] = pa.table(columns)
    with BundleWriter(directory, tables["train"].schema) as writer:
        for split, table in tables.items():
            writer.write(split, table)
    DatasetDescription(
        modality="table",
        target_kind="class",
        target="target",
        columns=(
            Column(name="file", type="number", role="feature"),
            Column(name="names", type="number", role="feature"),
            Column(name="target", type="category", role="target"),
        ),
        class_names=CLASSES,
        rows=writer.rows,
        class_counts={split: tuple(np.bincount(t["target"].to_numpy(), minlength=3)) for split, t in tables.items()},
        shards=writer.shards,
        transforms=tuple(
            NumberTransform(column=name, mean=0, scale=1, missing_indicator=False) for name in ("file", "names")
        ),
        fingerprint="0" * 64,
        warnings=("the column 'names' says nothing about 'target'",),
    ).write(directory / DATASET_NAME)
    return directory


MakeVariant = Callable[..., Path]


@pytest.fixture
def make_served(tmp_path: Path) -> MakeVariant:
    """Write a linear classifier: make_served(name, noise=0, invariant=True, padding_bytes=0, width=0).

    `width` numbers for each row are made and added up on the way; they are nothing to the answer.
    """

    def make(name: str, *, noise: float = 0.0, invariant: bool = True, padding_bytes: int = 0, width: int = 0) -> Path:
        rng = np.random.default_rng(1)
        weights = np.array([[-2.0, 0, 2.0], [0, 0, 0]]) + noise * rng.normal(size=(2, 3))
        constants = {"w": weights, "b": np.array([1.0, 0.5, -3.0]), "unused": np.zeros(padding_bytes // 4)}
        nodes = [helper.make_node("Gemm", ["input", "w", "b"], ["logits"])]
        if width:
            constants["wide"] = np.zeros((2, width))
            nodes = [
                helper.make_node("MatMul", ["input", "wide"], ["many"]),
                helper.make_node("Cos", ["many"], ["cosines"]),
                helper.make_node("ReduceMin", ["cosines"], ["one"], keepdims=0),
                helper.make_node("Mul", ["input", "one"], ["same"]),
                helper.make_node("Gemm", ["same", "w", "b"], ["logits"]),
            ]
        if not invariant:  # what dynamic quantization does: a scale over the whole batch
            nodes += [
                helper.make_node("Abs", ["logits"], ["sizes"]),
                helper.make_node("ReduceMax", ["sizes"], ["scale"], keepdims=0),
                helper.make_node("Div", ["logits", "scale"], ["scaled"]),
            ]
        nodes.append(helper.make_node("Softmax", ["logits" if invariant else "scaled"], ["probabilities"], axis=1))
        graph = helper.make_graph(
            nodes,
            name,
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 2])],
            [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3])],
            [numpy_helper.from_array(value.astype(np.float32), key) for key, value in constants.items()],
        )
        directory = tmp_path / name
        directory.mkdir()
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        (directory / "model.onnx").write_bytes(model.SerializeToString())
        Variant(
            name=name,
            task="tabular-classification",
            format="onnx",
            engine="onnxruntime",
            preprocessing="graph",
            signature=Signature(
                inputs=(TensorSpec(name="input", dtype="float32", shape=(None, 2)),),
                outputs=(TensorSpec(name="probabilities", dtype="float32", shape=(None, 3)),),
                columns=(ColumnSpec(name="file", type="number"), ColumnSpec(name="names", type="number")),
                class_names=CLASSES,
            ),
            files=("model.onnx",),
            origin=Origin(model=REFERENCE, methods=()),
        ).write(directory / VARIANT_NAME)
        return directory

    return make
