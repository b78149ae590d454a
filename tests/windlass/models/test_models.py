"""Architectures, a user's own module, and the files of a model."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from windlass import models
from windlass.errors import CorruptedError
from windlass.models import InvalidModelError, InvalidModuleError, make_spec, resolve_parameters
from windlass.models.preprocess import PixelScaling
from windlass.models.spec import MODEL_NAME, MODULE_NAME, WEIGHTS_NAME, ModelSpec

NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, input_shape, num_outputs, width=4):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(*input_shape, width), nn.ReLU(), nn.Linear(width, num_outputs))

    def forward(self, x):
        return self.layers(x)

not_a_module = 3
"""


def user_spec(directory: Path, source: str = NET, class_name: str = "Net") -> ModelSpec:
    (directory / MODULE_NAME).write_text(source)
    return make_spec(
        f"module.py:{class_name}", {}, input_shape=(3,), num_outputs=2, module_path=directory / MODULE_NAME
    )


@pytest.mark.parametrize("architecture", ["linear", "mlp", "cnn"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 33, 20), (2, 3, 3)])
def test_every_architecture_takes_images_of_any_size(architecture: str, shape: tuple[int, ...]) -> None:
    spec = make_spec(architecture, {}, input_shape=shape, num_outputs=5)
    assert models.build(spec)(torch.zeros(2, *shape)).shape == (2, 5)


@pytest.mark.parametrize("architecture", ["linear", "mlp"])
def test_tables_go_through_linear_and_mlp(architecture: str) -> None:
    spec = make_spec(architecture, {}, input_shape=(7,), num_outputs=1)
    assert models.build(spec)(torch.zeros(2, 7)).shape == (2, 1)


def test_the_cnn_for_digits_is_small_enough_for_60_kb_at_8_bits_and_too_large_at_32() -> None:
    network = models.build(make_spec("cnn", {}, input_shape=(1, 8, 8), num_outputs=10))
    assert 60_000 / 4 < sum(parameter.numel() for parameter in network.parameters()) < 50_000


def test_resolved_parameters_have_every_default() -> None:
    resolved = resolve_parameters("cnn", {"dropout": 0.5}, input_shape=(1, 28, 28))
    assert resolved == {"channels": [16, 32, 64], "hidden": 0, "dropout": 0.5, "batch_norm": False}


def test_an_unknown_parameter_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(InvalidModelError, match=r"mlp has no parameter 'depth'; it has: hidden, dropout, batch_norm"):
        resolve_parameters("mlp", {"depth": 3}, input_shape=(4,))


def test_a_wrong_value_is_refused_with_its_name_and_value() -> None:
    with pytest.raises(InvalidModelError, match=r"mlp: dropout: .* got 2"):
        resolve_parameters("mlp", {"dropout": 2}, input_shape=(4,))


def test_an_unknown_architecture_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(InvalidModelError, match=r"'resnet'; choose one of mlp, cnn, linear"):
        resolve_parameters("resnet", {}, input_shape=(4,))


def test_a_cnn_for_a_table_is_refused() -> None:
    with pytest.raises(InvalidModelError, match="take mlp or linear"):
        resolve_parameters("cnn", {}, input_shape=(4,))


@pytest.mark.parametrize(("architecture", "shape"), [("mlp", (4,)), ("cnn", (1, 8, 8))])
def test_batch_norm_trains_on_a_single_row(architecture: str, shape: tuple[int, ...]) -> None:
    network = models.build(make_spec(architecture, {"batch_norm": True}, input_shape=shape, num_outputs=2))
    network.train()(torch.ones(1, *shape)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_saved_model_comes_back_with_the_same_answers(tmp_path: Path) -> None:
    spec = make_spec("cnn", {"batch_norm": True, "hidden": 8, "dropout": 0.1}, input_shape=(1, 8, 8), num_outputs=3)
    network = models.build(spec).eval()
    models.save(tmp_path, spec, network)
    loaded_spec, loaded = models.load(tmp_path)
    inputs = torch.randn(4, 1, 8, 8)
    assert loaded_spec == spec
    assert torch.equal(loaded(inputs), network(inputs))


def test_a_users_module_travels_as_source_with_its_weights(tmp_path: Path) -> None:
    source, published = tmp_path / "source", tmp_path / "published"
    source.mkdir()
    published.mkdir()
    spec = user_spec(source)
    network = models.build(spec, source).eval()
    models.save(published, spec, network, source / MODULE_NAME)
    _, loaded = models.load(published)
    assert torch.equal(loaded(torch.ones(1, 3)), network(torch.ones(1, 3)))


def test_a_changed_source_is_refused_before_it_is_imported(tmp_path: Path) -> None:
    spec = user_spec(tmp_path)
    marker = tmp_path / "imported"
    (tmp_path / MODULE_NAME).write_text(NET + f"\nopen({str(marker)!r}, 'w')\n")
    with pytest.raises(CorruptedError, match="was not imported"):
        models.build(spec, tmp_path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("source", "class_name", "message"),
    [
        (NET, "Nett", "has no class 'Nett'"),
        (NET, "not_a_module", r"is no torch\.nn\.Module"),
        ("class Net(:\n", "Net", "line 1: invalid syntax"),
        ("import no_such_package\n" + NET, "Net", "No module named 'no_such_package'.*travels as one file"),
        ("1 / 0\n", "Net", "importing it fails with ZeroDivisionError"),
        (NET.replace("width, num_outputs", "width, num_outputs + 1"), "Net", r"gives torch.float32 \[2, 3\].*\[2, 2\]"),
        (NET.replace("num_outputs, width=4", "outputs"), "Net", "fails with TypeError.*built by these keywords"),
        (NET.replace("return self.layers(x)", "return 1"), "Net", "Net returns int; it has to return a tensor"),
    ],
)
def test_a_users_module_that_cannot_serve_is_refused_with_what_is_wrong(
    tmp_path: Path, source: str, class_name: str, message: str
) -> None:
    spec = user_spec(tmp_path, source, class_name)
    with pytest.raises(InvalidModuleError, match=message):
        models.build(spec, tmp_path)


def test_a_module_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidModuleError, match="there is no such file"):
        make_spec("net.py:Net", {}, input_shape=(3,), num_outputs=2, module_path=tmp_path / "net.py")


@pytest.mark.attack
def test_a_pickle_named_safetensors_is_refused(tmp_path: Path) -> None:
    spec = make_spec("linear", {}, input_shape=(3,), num_outputs=2)
    models.save(tmp_path, spec, models.build(spec))
    (tmp_path / WEIGHTS_NAME).write_bytes(pickle.dumps({"1.weight": [1.0]}))
    with pytest.raises(CorruptedError, match="not safetensors but a pickle"):
        models.load(tmp_path)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    spec = make_spec("linear", {}, input_shape=(3,), num_outputs=2)
    models.save(tmp_path, spec, models.build(make_spec("mlp", {}, input_shape=(3,), num_outputs=2)))
    with pytest.raises(CorruptedError, match="does not fit"):
        models.load(tmp_path)


def test_pixels_are_scaled_by_channel_and_channels_come_first() -> None:
    scaling = PixelScaling(mean=(0.0, 0.5), std=(1.0, 0.25))
    pixels = torch.tensor([[[[255, 0], [0, 255]]]], dtype=torch.uint8)
    torch.testing.assert_close(scaling(pixels), torch.tensor([[[[1.0, 0.0]], [[-2.0, 2.0]]]]))
    assert scaling.state_dict() == {}


@pytest.mark.parametrize("name", [WEIGHTS_NAME, MODULE_NAME, MODEL_NAME])
def test_a_model_of_which_a_file_is_missing_says_which_and_what_to_do(tmp_path: Path, name: str) -> None:
    (tmp_path / "source").mkdir()
    spec = user_spec(tmp_path / "source")
    models.save(tmp_path, spec, models.build(spec, tmp_path / "source"), tmp_path / "source" / MODULE_NAME)
    (tmp_path / name).unlink()
    with pytest.raises(CorruptedError, match=rf"{name} is missing; run the step again that writes it"):
        models.load(tmp_path)


def test_weights_that_are_cut_off_are_refused_with_the_step_to_run_again(tmp_path: Path) -> None:
    spec = make_spec("linear", {}, input_shape=(3,), num_outputs=2)
    models.save(tmp_path, spec, models.build(spec))
    weights = tmp_path / WEIGHTS_NAME
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(CorruptedError, match="it is cut off, or longer than its header says"):
        models.load(tmp_path)
