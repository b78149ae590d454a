"""Networks that compression has changed: built again from JSON, whatever their architecture."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from windlass import models
from windlass.errors import CorruptedError
from windlass.models import make_spec
from windlass.models.edits import apply_edits, factorizable_layers, resized_modules
from windlass.models.spec import Factorized, ModelSpec, Resized


def test_the_edits_between_two_networks_make_one_of_the_other() -> None:
    def made(hidden: int) -> nn.Module:
        return models.build(make_spec("mlp", {"hidden": [hidden], "batch_norm": True}, input_shape=(3,), num_outputs=2))

    large, small = made(8), made(5)
    edits = resized_modules(large, small)
    assert {edit.path for edit in edits} == {"0", "1", "3"}
    apply_edits(large, edits)
    large.load_state_dict(small.state_dict())
    features = torch.randn(4, 3)
    assert torch.equal(large.eval()(features), small.eval()(features))
    assert isinstance(large[0], nn.Linear)  # type: ignore[index]
    assert large[0].out_features == 5  # type: ignore[index]


def test_an_edited_model_is_saved_and_comes_back(tmp_path: Path) -> None:
    spec = make_spec("mlp", {"hidden": [8]}, input_shape=(3,), num_outputs=2)
    edited = spec.model_copy(update={"edits": (Factorized(path="0", rank=2),)})
    network = models.build(edited).eval()
    models.save(tmp_path, edited, network)
    loaded_spec, loaded = models.load(tmp_path)
    assert loaded_spec == edited
    assert isinstance(loaded, nn.Sequential)
    assert [tuple(layer.weight.shape) for layer in loaded[0]] == [(2, 3), (8, 2)]
    assert torch.equal(loaded(torch.ones(1, 3)), network(torch.ones(1, 3)))


def test_a_factorized_convolution_keeps_its_stride() -> None:
    network = nn.Sequential(nn.Conv2d(4, 6, 1, stride=2, bias=False), nn.Conv2d(6, 2, 3), nn.Conv2d(2, 2, 1, groups=2))
    assert [path for path, _ in factorizable_layers(network)] == ["0"]
    apply_edits(network, [Factorized(path="0", rank=1)])
    assert network[0](torch.zeros(1, 4, 8, 8)).shape == (1, 6, 4, 4)
    assert network[0][1].bias is None


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (Resized(path="7", sizes={"in_features": 2}, shapes={}), "edits '7', which the network does not have"),
        (Resized(path="0", sizes={"in_channels": 2}, shapes={}), "sets in_channels of '0', which has no such size"),
        (Resized(path="0", sizes={"training": 2}, shapes={}), "sets training of '0', which has no such size"),
        (Resized(path="0", sizes={}, shapes={"weight": (9, 3)}), r"gives weight of '0' the shape \[9, 3\]"),
        (Resized(path="0", sizes={}, shapes={"scale": (2,)}), r"gives scale of '0' the shape \[2\]"),
        (Factorized(path="1", rank=2), "factorizes '1', which is no linear layer"),
        (Factorized(path="", rank=2), "factorizes '', which is no linear layer"),
    ],
)
def test_an_edit_that_does_not_fit_the_network_is_refused(edit: Resized | Factorized, message: str) -> None:
    spec = make_spec("mlp", {"hidden": [8]}, input_shape=(3,), num_outputs=2)
    with pytest.raises(CorruptedError, match=message):
        models.build(spec.model_copy(update={"edits": (edit,)}))


def test_a_file_with_an_edit_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    spec = make_spec("linear", {}, input_shape=(3,), num_outputs=2)
    text = spec.model_dump_json().replace('"edits":[]', '"edits":[{"kind":"grown","path":"0"}]')
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(CorruptedError, match="is not a ModelSpec: edits"):
        ModelSpec.read(tmp_path / "model.json")
