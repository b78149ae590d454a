from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from windlass.compression.errors import ExportError, NameCollisionError
from windlass.compression.export import export_core
from windlass.compression.methods import parse_chain
from windlass.compression.methods.int8 import quantize_static
from windlass.compression.parts import export_parts
from windlass.compression.slim import slim
from windlass.data.bundle import Bundle
from windlass.data.description import DATASET_NAME, DatasetDescription
from windlass.models import load
from windlass.tasks import get_task

Features = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


def answer(model: onnx.ModelProto, features: Features) -> Features:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: Features = session.run(None, {"features": features})[0]
    return found


def test_a_name_spells_its_chain_and_a_wrong_one_is_told_what_is_allowed() -> None:
    assert parse_chain("fp32").methods == ()
    assert parse_chain("int8").name == "int8"
    with pytest.raises(ValueError, match="'int3' is no candidate; choose from fp32, int8"):
        parse_chain("int3")
    with pytest.raises(ValueError, match="int8 fixes the numbers of the network, so nothing comes after it"):
        parse_chain("int8+int8")


@pytest.fixture(scope="module")
def network() -> nn.Sequential:
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(512, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
        nn.Softmax(dim=1),
    )
    made(torch.randn(64, 1, 8, 8))  # moves the statistics of batch norm away from where they start
    return made.eval()


@pytest.fixture(scope="module")
def core(network: nn.Sequential) -> onnx.ModelProto:
    return export_core(network, (1, 8, 8), output="probabilities", architecture="cnn")


@pytest.fixture(scope="module")
def features() -> Features:
    made: Features = np.random.default_rng(0).normal(size=(64, 1, 8, 8)).astype(np.float32)
    return made


def test_export_folds_batch_norm_and_leaves_dropout_out(
    network: nn.Sequential, core: onnx.ModelProto, features: Features
) -> None:
    operators = {node.op_type for node in core.graph.node}
    assert not operators & {"BatchNormalization", "Dropout"}
    with torch.no_grad():
        wanted = network(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(answer(core, features), wanted, atol=1e-5)


def test_slim_model_answers_bit_by_bit_the_same_in_less_than_its_notes(
    core: onnx.ModelProto, features: Features
) -> None:
    small = slim(core)
    np.testing.assert_array_equal(answer(small, features), answer(core, features))
    weights_bytes = sum(4 * int(np.prod(constant.dims)) for constant in core.graph.initializer)
    assert len(small.SerializeToString()) < weights_bytes + 1500
    assert slim(small).SerializeToString() == small.SerializeToString()


def test_int8_is_near_a_quarter_of_fp32_and_answers_alone_as_in_a_batch(
    core: onnx.ModelProto, features: Features
) -> None:
    quantized = slim(quantize_static(core, [features]))
    parameters = sum(int(np.prod(constant.dims)) for constant in core.graph.initializer)
    assert len(quantized.SerializeToString()) < 1.15 * parameters
    together = answer(quantized, features)
    outlier = np.concatenate([1000 * features[:1], features[1:]])
    np.testing.assert_array_equal(answer(quantized, outlier)[1:], together[1:])
    for row in range(8):
        np.testing.assert_array_equal(answer(quantized, features[row : row + 1])[0], together[row])
    assert np.abs(together - answer(core, features)).max() < 0.05


def test_int8_weights_leave_room_for_processors_that_add_in_16_bits(core: onnx.ModelProto, features: Features) -> None:
    quantized = quantize_static(core, [features])
    weights = [
        onnx.numpy_helper.to_array(c) for c in quantized.graph.initializer if c.data_type == 3 and len(c.dims) > 1
    ]
    assert len(weights) == 4
    assert max(int(np.abs(weight.astype(int)).max()) for weight in weights) <= 64


class TakesABranch(nn.Module):
    """Its answer depends on a branch over values, which a graph does not have."""

    def forward(self, features: Tensor) -> Tensor:
        return features * 2 if features.sum() > 0 else features * 3


def test_network_that_branches_on_values_is_refused_with_what_to_change() -> None:
    with pytest.raises(ExportError, match=r"the network module:Net cannot be exported .* free of branches"):
        export_core(TakesABranch(), (3,), output="value", architecture="module:Net")


def test_export_that_answers_otherwise_than_the_network_is_refused(
    mixed_bundle: Path, make_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model("tabular-classification", mixed_bundle, "linear")
    spec, module = load(model)
    monkeypatch.setattr("windlass.models.load", lambda _: (spec, Drifts(module)))
    with pytest.raises(ExportError, match="its answers in ONNX differ from torch by"):
        export_parts(get_task("tabular-classification"), model, Bundle.open(mixed_bundle))


class Drifts(nn.Module):
    """Behaves otherwise while it is exported: what a module does that asks whether it is traced."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.inner(features)
        return logits if torch.compiler.is_exporting() else logits * 3 + features.sum(dim=1, keepdim=True)


class OneBatchSize(nn.Module):
    """Takes batches of two rows only, as an example batch may suggest."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.inner(features)
        return logits.reshape(2, -1).relu().reshape(logits.shape) if torch.compiler.is_exporting() else logits


def test_export_that_takes_one_batch_size_only_is_refused(
    mixed_bundle: Path, make_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model("tabular-classification", mixed_bundle, "linear")
    spec, module = load(model)
    monkeypatch.setattr("windlass.models.load", lambda _: (spec, OneBatchSize(module)))
    with pytest.raises(ExportError, match="it takes no batch of 1 rows in ONNX"):
        export_parts(get_task("tabular-classification"), model, Bundle.open(mixed_bundle))


def test_column_with_the_name_of_the_output_is_refused(mixed_bundle: Path, make_model: Callable[..., Path]) -> None:
    model = make_model("tabular-classification", mixed_bundle, "linear")
    text = (mixed_bundle / DATASET_NAME).read_text(encoding="utf-8")
    (mixed_bundle / DATASET_NAME).write_text(text.replace('"city"', '"probabilities"'), encoding="utf-8")
    assert DatasetDescription.read(mixed_bundle / DATASET_NAME).features[0].name == "probabilities"
    with pytest.raises(NameCollisionError, match="rename the column"):
        export_parts(get_task("tabular-classification"), model, Bundle.open(mixed_bundle))
