"""Opening a variant, running it, and its golden examples."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from windlass.errors import CorruptedError
from windlass.variants import InvalidVariantError, Signature, open_variant
from windlass.variants import golden as golden_examples
from windlass.variants.engines import Engine, PredictionError, load_engine
from windlass.variants.golden import GoldenMismatchError
from windlass.variants.rows import rows_to_tensors, tensors_to_answers

WriteVariant = Callable[[onnx.ModelProto, Signature], Path]


def _load(directory: Path, *, threads: int = 1, workers: int = 1) -> Engine:
    return load_engine(directory, open_variant(directory), threads, workers=workers)


def _edit(directory: Path, **changes: object) -> None:
    path = directory / "variant.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_matrix_model_answers_with_the_class_and_its_probabilities(
    write_variant: WriteVariant, linear_model: onnx.ModelProto, numbers: Signature
) -> None:
    engine = _load(write_variant(linear_model, numbers))
    outputs = engine.predict(rows_to_tensors(numbers, [{"a": 1, "b": 0, "c": 0}, {"c": 1, "b": 0, "a": 0}]))
    answers = tensors_to_answers(numbers, outputs)
    assert [answer["class"] for answer in answers] == ["no", "yes"]
    assert answers[0]["probabilities"] == pytest.approx([1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2))])


def test_a_mixed_model_answers_with_numbers_and_knows_missing_and_unseen(
    write_variant: WriteVariant, mixed_model: onnx.ModelProto, mixed: Signature
) -> None:
    engine = _load(write_variant(mixed_model, mixed))
    rows = [{"town": "Oslo", "age": 3}, {"age": None, "town": None}, {"age": 1.5, "town": "Atlantis"}]
    assert tensors_to_answers(mixed, engine.predict(rows_to_tensors(mixed, rows))) == [13.0, -1.0, 0.5]


@pytest.mark.parametrize(("threads", "workers"), [(1, 1), (2, 1), (2, 2)])
def test_answers_are_equal_bit_for_bit_every_time(
    write_variant: WriteVariant, linear_model: onnx.ModelProto, numbers: Signature, threads: int, workers: int
) -> None:
    engine = _load(write_variant(linear_model, numbers), threads=threads, workers=workers)
    inputs = {"input": np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)}
    first = engine.predict(inputs)["probabilities"]
    assert all(np.array_equal(engine.predict(inputs)["probabilities"], first) for _ in range(5))


def test_inputs_that_the_model_cannot_take_fail_without_the_engines_words(
    write_variant: WriteVariant, linear_model: onnx.ModelProto, numbers: Signature
) -> None:
    engine = _load(write_variant(linear_model, numbers))
    with pytest.raises(PredictionError, match="the model failed on these rows"):
        engine.predict({"input": np.zeros((1, 7), dtype=np.float32)})


def test_the_package_imports_without_numpy_onnxruntime_and_mlflow() -> None:
    code = (
        "import sys, windlass.variants, windlass.variants.rows, windlass.variants.golden, windlass.variants.images,"
        " windlass.variants.config; heavy = {'numpy', 'onnxruntime', 'onnx', 'mlflow', 'torch', 'PIL'};"
        " assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_directory_without_variant_json_is_not_a_variant(tmp_path: Path) -> None:
    with pytest.raises(CorruptedError, match=r"variant\.json is missing"):
        open_variant(tmp_path)


@pytest.mark.attack
@pytest.mark.parametrize(
    "name",
    ["../model.onnx", "/etc/model.onnx", "a/../model.onnx", "a\\model.onnx", "./model.onnx", "m\0.onnx", "C:m.onnx"],
)
def test_a_file_name_that_leads_elsewhere_is_refused(
    write_variant: WriteVariant, linear_model: onnx.ModelProto, numbers: Signature, name: str
) -> None:
    directory = write_variant(linear_model, numbers)
    _edit(directory, files=[name])
    with pytest.raises(InvalidVariantError, match="not a plain relative name"):
        open_variant(directory)


@pytest.mark.attack
def test_a_model_that_is_a_link_is_refused(
    write_variant: WriteVariant, linear_model: onnx.ModelProto, numbers: Signature, tmp_path: Path
) -> None:
    directory = write_variant(linear_model, numbers)
    (directory / "model.onnx").rename(tmp_path / "elsewhere.onnx")
    (directory / "model.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(InvalidVariantError, match=r"model\.onnx is reached through a link"):
        open_variant(directory)


def test_a_missing_model_is_named(
    write_variant: WriteVariant, linear_model: onnx.ModelProto, numbers: Signature
) -> None:
    directory = write_variant(linear_model, numbers)
    (directory / "model.onnx").unlink()
    with pytest.raises(InvalidVariantError, match=r"the file model\.onnx is missing"):
        open_variant(directory)


def test_a_signature_that_contradicts_itself_is_refused(
    write_variant: WriteVariant, linear_model: onnx.ModelProto, numbers: Signature
) -> None:
    directory = write_variant(linear_model, numbers.model_copy(update={"class_names": ("no", "yes", "maybe")}))
    with pytest.raises(InvalidVariantError, match=r"the output is not `probabilities` float32 \[B, 3\]"):
        open_variant(directory)


def test_a_model_of_another_signature_is_refused(
    write_variant: WriteVariant, mixed_model: onnx.ModelProto, numbers: Signature
) -> None:
    directory = write_variant(mixed_model, numbers)
    with pytest.raises(InvalidVariantError, match=r"the model's inputs are \['age', 'town'\]"):
        load_engine(directory, open_variant(directory), 1)


def test_a_graph_that_does_not_load_is_refused_with_the_reason(
    write_variant: WriteVariant, linear_model: onnx.ModelProto, numbers: Signature
) -> None:
    linear_model.graph.node[0].op_type = "NoSuchOperator"
    directory = write_variant(linear_model, numbers)
    with pytest.raises(InvalidVariantError, match="NoSuchOperator"):
        load_engine(directory, open_variant(directory), 1)


def test_golden_examples_hold_for_the_model_that_made_them(
    write_variant: WriteVariant, mixed_model: onnx.ModelProto, mixed: Signature
) -> None:
    engine = _load(write_variant(mixed_model, mixed))
    golden = golden_examples.make(
        engine, [{"age": 1, "town": "Oslo"}, {"age": None, "town": None}], uncompressed=engine, tolerance=1e-4
    )
    assert golden.outputs == golden.uncompressed == {"value": [11.0, -1.0]}
    golden_examples.check(engine, golden)


def test_a_model_that_answers_otherwise_fails_its_golden_examples(
    write_variant: WriteVariant, linear_model: onnx.ModelProto, numbers: Signature
) -> None:
    engine = _load(write_variant(linear_model, numbers))
    golden = golden_examples.make(engine, [[1, 2, 3], [0, 0, 0.5]], uncompressed=engine, tolerance=1e-4)
    weight = linear_model.graph.initializer[0]
    weight.raw_data = (np.frombuffer(weight.raw_data, dtype=np.float32) * 1.01).astype(np.float32).tobytes()
    other = _load(write_variant(linear_model, numbers))
    with pytest.raises(GoldenMismatchError, match=r"row \d of probabilities is 0\.\d+, not 0\.\d+ ± 0\.0001"):
        golden_examples.check(other, golden)


def test_golden_examples_are_never_empty(
    write_variant: WriteVariant, linear_model: onnx.ModelProto, numbers: Signature
) -> None:
    engine = _load(write_variant(linear_model, numbers))
    golden = golden_examples.make(engine, [[1, 2, 3]], uncompressed=engine, tolerance=1e-4)
    with pytest.raises(GoldenMismatchError, match="they are none"):
        golden_examples.check(engine, golden.model_copy(update={"rows": []}))


def test_a_model_whose_answers_are_not_finite_gets_no_golden_examples(
    write_variant: WriteVariant, mixed_model: onnx.ModelProto, mixed: Signature
) -> None:
    default = next(each for each in mixed_model.graph.node[2].attribute if each.name == "default_float")
    default.f = float("inf")
    engine = _load(write_variant(mixed_model, mixed))
    with pytest.raises(GoldenMismatchError, match="row 0 of value is not finite"):
        golden_examples.make(engine, [{"age": 1, "town": "x"}], uncompressed=engine, tolerance=1e-4)


@pytest.fixture
def bounded_memory() -> Iterator[None]:
    """As in a container: where the kernel promises any amount (overcommit, as on nodes of Kubernetes), filling it
    would take the machine down."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.attack
def test_a_small_constant_that_asks_for_terabytes_fails_at_once_without_paths(
    write_variant: WriteVariant, linear_model: onnx.ModelProto, numbers: Signature, bounded_memory: None
) -> None:
    graph = linear_model.graph
    graph.initializer.append(onnx.numpy_helper.from_array(np.array([1 << 40], dtype=np.int64), "length"))
    graph.node.append(onnx.helper.make_node("ConstantOfShape", ["length"], ["huge"]))
    graph.node.append(onnx.helper.make_node("ReduceSum", ["huge"], ["sum"], keepdims=0))
    graph.node.append(onnx.helper.make_node("Add", ["probabilities", "sum"], ["out"]))
    graph.node[1].output[0], graph.node[-1].input[0], graph.node[-1].output[0] = "softmax", "softmax", "probabilities"
    engine = _load(write_variant(linear_model, numbers))
    with pytest.raises(PredictionError) as caught:
        engine.predict(rows_to_tensors(numbers, [[1, 2, 3]]))
    assert "onnxruntime" not in str(caught.value)


def test_an_unreasonable_variant_json_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "variant.json").open("wb") as file:
        file.truncate((16 << 20) + 1)
    with pytest.raises(InvalidVariantError, match=r"variant\.json is larger than 16,777,216 bytes; register the model"):
        open_variant(tmp_path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rows": [["x", 1, 2]]}, r"their rows do not fit the signature: row 0, column 'a': 'x' is not"),
        ({"outputs": {"probabilities": []}}, "probabilities has 0 answers for 1 rows"),
        ({"outputs": {"probabilities": [[0.5]]}}, "row 0 of probabilities has 2 values, not 1"),
        ({"outputs": {"probabilities": ["0.5"]}}, "an answer is not a number or a list of numbers"),
        ({"outputs": {}}, "they are none, or not for the outputs .'probabilities'."),
    ],
)
def test_golden_examples_that_are_not_of_this_model_are_a_mismatch(
    write_variant: WriteVariant, linear_model: onnx.ModelProto, numbers: Signature, changes: dict[str, Any], says: str
) -> None:
    engine = _load(write_variant(linear_model, numbers))
    good = golden_examples.make(engine, [[1, 2, 3]], uncompressed=engine, tolerance=1e-4)
    with pytest.raises(GoldenMismatchError, match=f"{says}.*; do not use it here, but register it again"):
        golden_examples.check(engine, good.model_copy(update=changes))
