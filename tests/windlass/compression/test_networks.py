"""Methods that change the network: what they remove is gone, and what is left is built again from JSON."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from windlass import models
from windlass.compression.config import CompressConfig
from windlass.compression.errors import NotApplicableError
from windlass.compression.export import export_core
from windlass.compression.methods import parse_chain
from windlass.compression.methods.method import NetworkMethod
from windlass.compression.methods.pruned import choose_channels
from windlass.compression.methods.sparse import two_of_four
from windlass.models import make_spec
from windlass.models.spec import MODULE_NAME, ModelSpec
from windlass.training.config import TrainConfig

RESIDUAL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, input_shape, num_outputs, width=16):
        super().__init__()
        self.stem = nn.Conv2d(input_shape[0], width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.same = nn.Conv2d(width, width, 3, padding=1)
        self.branch = nn.Conv2d(width, 8, 1)
        self.deep = nn.Conv2d(width + 8, width + 8, 3, padding=1, groups=width + 8)
        self.hidden = nn.Linear((width + 8) * 16, 20)
        self.out = nn.Linear(20, num_outputs)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = x + torch.relu(self.same(x))
        x = torch.cat([x, torch.relu(self.branch(x))], 1)
        x = nn.functional.max_pool2d(self.deep(x), 2)
        return self.out(torch.relu(self.hidden(x.flatten(1))))
"""
COUNTS_ON_ITS_SIZE = """
from torch import nn

class Net(nn.Module):
    def __init__(self, input_shape, num_outputs):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 8, 3, padding=1), nn.Linear(512, num_outputs)

    def forward(self, x):
        return self.second(self.first(x).view(-1, 512))
"""
SHARES_A_PARAMETER = """
from torch import nn

class Net(nn.Module):
    def __init__(self, input_shape, num_outputs):
        super().__init__()
        self.first, self.again, self.out = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, num_outputs)
        self.again.weight = self.first.weight

    def forward(self, x):
        return self.out(self.again(self.first(x).relu()).relu())
"""


def method(name: str) -> NetworkMethod:
    (found,) = parse_chain(name).network
    return found


def trained(spec: ModelSpec, directory: Path | None = None) -> nn.Module:
    """A network whose weights and statistics are not those of a fresh one."""
    torch.manual_seed(1)
    network = models.build(spec, directory)
    with torch.no_grad():
        for _ in range(3):
            network.train()(torch.randn(32, *spec.input_shape))
    return network.eval()


def own(directory: Path, source: str, shape: tuple[int, ...] = (1, 8, 8), **parameters: int) -> tuple[ModelSpec, Path]:
    (directory / MODULE_NAME).write_text(source)
    module = directory / MODULE_NAME
    return make_spec("module.py:Net", parameters, input_shape=shape, num_outputs=3, module_path=module), module


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def macs(core: onnx.ModelProto, shape: tuple[int, ...]) -> int:
    """Multiplications of one example, in convolutions and linear layers."""
    known = onnx.shape_inference.infer_shapes(core).graph
    sizes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in [*known.value_info, *known.output]}
    weights = {constant.name: list(constant.dims) for constant in core.graph.initializer}
    total = 0
    for node in core.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            outputs = sizes[node.output[0]]
            total += int(np.prod(weights[node.input[1]])) * int(np.prod(outputs[2:]))
    return total


@pytest.mark.slow
def test_a_pruned_network_with_skips_and_concatenations_is_saved_exported_and_answers_the_same(tmp_path: Path) -> None:
    spec, module = own(tmp_path, RESIDUAL)
    network = trained(spec, tmp_path)
    whole_core = export_core(network, spec.input_shape, output="y", architecture="Net")
    parameters = count(network)
    pruned_spec, pruned = method("pruned-50").shape(spec, network, CompressConfig())
    (tmp_path / "model").mkdir()
    models.save(tmp_path / "model", pruned_spec, pruned, module)
    loaded_spec, loaded = models.load(tmp_path / "model")
    assert loaded_spec == pruned_spec
    assert count(loaded) < 0.6 * parameters
    inputs = torch.randn(5, 1, 8, 8)
    with torch.no_grad():
        wanted = pruned(inputs)
        torch.testing.assert_close(loaded(inputs), wanted)

    core = export_core(loaded, spec.input_shape, output="y", architecture="Net")
    session = onnxruntime.InferenceSession(core.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})[0]
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-5)
    assert len(core.SerializeToString()) < 0.75 * len(whole_core.SerializeToString())
    assert macs(core, spec.input_shape) < 0.5 * macs(whole_core, spec.input_shape)


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("importance", ["l1", "l2"])
def test_the_channels_that_matter_least_are_those_that_go(importance: str, scope: str) -> None:
    spec = make_spec("mlp", {"hidden": [10, 10]}, input_shape=(6,), num_outputs=2)
    network = trained(spec)
    with torch.no_grad():
        for layer, following, small in ((network[0], network[2], [1, 4, 7]), (network[2], network[4], [0, 5, 9])):  # type: ignore[index]
            layer.weight[small] *= 1e-3
            layer.bias[small] = 0
            following.weight[:, small] *= 1e-3
    inputs = torch.randn(20, 6)
    before = network(inputs)
    config = CompressConfig.model_validate({"pruning": {"importance": importance, "scope": scope}})
    pruned_spec, pruned = method("pruned-30").shape(spec, network, config)
    assert [layer.weight.shape for layer in (pruned[0], pruned[2], pruned[4])] == [(7, 6), (7, 7), (2, 7)]  # type: ignore[index]
    torch.testing.assert_close(pruned(inputs), before, atol=1e-3, rtol=0)
    assert models.build(pruned_spec)(inputs).shape == (20, 2)


def test_the_share_is_of_all_channels_or_of_each_layers_and_some_stay_whatever_they_score() -> None:
    scores = [torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([10.0, 40.0, 30.0, 20.0, 50.0, 60.0])]
    kept = [{2, 3}, {4, 5}]
    assert choose_channels(scores, kept, 0.3, scope="global") == [[0, 1], [0]]
    assert choose_channels(scores, kept, 0.99, scope="global") == [[0, 1], [0, 3, 2, 1]]
    assert choose_channels(scores, kept, 0.5, scope="layer") == [[0, 1], [0, 3, 2]]


def test_every_layer_keeps_two_channels(tmp_path: Path) -> None:
    spec, _ = own(tmp_path, RESIDUAL)
    _, pruned = method("pruned-99").shape(spec, trained(spec, tmp_path), CompressConfig())
    channels = {name: layer.weight.shape[0] for name, layer in pruned.named_children()}  # type: ignore[index, union-attr]
    assert channels == {"stem": 2, "norm": 2, "same": 2, "branch": 2, "deep": 4, "hidden": 2, "out": 3}


def test_a_network_can_be_pruned_again(tmp_path: Path) -> None:
    spec = make_spec("cnn", {"batch_norm": True}, input_shape=(1, 8, 8), num_outputs=3)
    once, network = method("pruned-30").shape(spec, trained(spec), CompressConfig())
    first = count(network)
    twice, network = method("pruned-30").shape(once, network, CompressConfig())
    models.save(tmp_path, twice, network)
    _, loaded = models.load(tmp_path)
    inputs = torch.randn(2, 1, 8, 8)
    assert count(loaded) == count(network) < 0.7 * first
    assert torch.equal(loaded(inputs), network(inputs))


@pytest.mark.parametrize(
    ("source", "shape", "name", "message"),
    [
        (COUNTS_ON_ITS_SIZE, (1, 8, 8), "pruned-50", r"pruned-50 cannot be made: afterwards .*forward.* fails with"),
        (SHARES_A_PARAMETER, (6,), "pruned-50", "layers of module:Net share a parameter; leave it out"),
        (RESIDUAL, (1, 8, 8), "distilled-50", r"which of its parameters are widths; name them in compress\.distil"),
        (RESIDUAL, (1, 8, 8), "distilled-depth-50", "module:Net has no list of hidden layers"),
    ],
)
def test_a_users_network_that_cannot_be_changed_says_why(
    tmp_path: Path, source: str, shape: tuple[int, ...], name: str, message: str
) -> None:
    spec, _ = own(tmp_path, source, shape)
    with pytest.raises(NotApplicableError, match=message):
        method(name).shape(spec, trained(spec, tmp_path), CompressConfig())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pruned-50", "linear has no hidden channels to spare"),
        ("distilled-50", "such a student of linear has no fewer parameters"),
        ("distilled-depth-50", "linear has no list of hidden layers"),
        ("low-rank-10", "linear has no layer that gets smaller by it"),
        ("sparse-2:4", "linear has no layer whose inputs can be divided by four"),
    ],
)
def test_a_linear_model_has_nothing_to_take_away(name: str, message: str) -> None:
    spec = make_spec("linear", {}, input_shape=(6,), num_outputs=2)
    with pytest.raises(NotApplicableError, match=message):
        method(name).shape(spec, models.build(spec), CompressConfig())


def test_a_student_has_a_share_of_each_width_and_the_same_fresh_weights_each_time() -> None:
    spec = make_spec("cnn", {"hidden": 5}, input_shape=(1, 8, 8), num_outputs=3)
    state = torch.get_rng_state()
    first, student = method("distilled-50").shape(spec, trained(spec), CompressConfig())
    torch.set_rng_state(state)
    _, again = method("distilled-50").shape(spec, trained(spec), CompressConfig())
    assert first.parameters == {"channels": [8, 16, 32], "hidden": 2, "dropout": 0.0, "batch_norm": False}
    assert all(torch.equal(a, b) for a, b in zip(student.parameters(), again.parameters(), strict=True))


def test_a_shallower_student_keeps_the_narrowest_layers_in_their_order() -> None:
    spec = make_spec("mlp", {"hidden": [64, 16, 32, 64]}, input_shape=(6,), num_outputs=3)
    student, _ = method("distilled-depth-50").shape(spec, trained(spec), CompressConfig())
    assert student.parameters["hidden"] == [16, 32]


def test_a_student_of_a_users_class_has_a_share_of_the_parameters_that_are_named(tmp_path: Path) -> None:
    spec, _ = own(tmp_path, RESIDUAL, width=16)
    network = trained(spec, tmp_path)
    config = CompressConfig.model_validate({"distillation": {"widths": ["width"]}})
    student, smaller = method("distilled-25").shape(spec, network, config)
    assert student.parameters == {"width": 4}
    assert count(models.build(student, tmp_path)) == count(smaller)
    unset = CompressConfig.model_validate({"distillation": {"widths": ["depth"]}})
    with pytest.raises(NotApplicableError, match=r"widths names 'depth', which model\.parameters does not set"):
        method("distilled-25").shape(spec, network, unset)


def test_a_student_of_a_changed_network_is_refused() -> None:
    spec = make_spec("mlp", {}, input_shape=(6,), num_outputs=3)
    pruned, network = method("pruned-30").shape(spec, trained(spec), CompressConfig())
    with pytest.raises(NotApplicableError, match="a student is made from a whole network: put distilled first"):
        method("distilled-50").shape(pruned, network, CompressConfig())


def test_low_rank_is_the_best_approximation_and_never_larger(tmp_path: Path) -> None:
    spec = make_spec("mlp", {"hidden": [40, 30]}, input_shape=(20,), num_outputs=3)
    network = trained(spec)
    weight = network[2].weight.detach().clone()  # type: ignore[index, union-attr, operator]
    weights_before = count(network)
    changed, smaller = method("low-rank-50").shape(spec, network, CompressConfig())
    assert [(edit.path, edit.rank) for edit in changed.edits] == [("0", 6), ("2", 8), ("4", 1)]  # type: ignore[union-attr]
    first, second = smaller[2]  # type: ignore[index, misc]
    left, scale, right = torch.linalg.svd(weight)
    scale[8:] = 0
    torch.testing.assert_close(second.weight @ first.weight, left @ torch.diag(scale) @ right[:30])
    assert count(smaller) < 0.55 * weights_before
    models.save(tmp_path, changed, smaller)
    inputs = torch.randn(4, 20)
    torch.testing.assert_close(models.load(tmp_path)[1](inputs), smaller(inputs))


def test_full_rank_convolutions_of_one_pixel_answer_as_before(tmp_path: Path) -> None:
    spec, _ = own(tmp_path, RESIDUAL)
    network = trained(spec, tmp_path)
    branch = network.branch
    assert isinstance(branch, nn.Conv2d)
    with torch.no_grad():
        branch.weight.copy_(torch.ones_like(branch.weight) * torch.arange(8.0).reshape(8, 1, 1, 1))
    inputs = torch.randn(4, 16, 8, 8)
    before = branch(inputs)
    changed, smaller = method("low-rank-25").shape(spec, network, CompressConfig())
    assert "branch" in {edit.path for edit in changed.edits}
    torch.testing.assert_close(smaller.branch(inputs), before, atol=1e-4, rtol=1e-4)  # type: ignore[operator]


def test_sparse_weights_are_zero_where_they_were_smallest_in_their_layer() -> None:
    spec = make_spec("mlp", {"hidden": [40]}, input_shape=(20,), num_outputs=3)
    network = trained(spec)
    before = [p.detach().clone() for p in network.parameters()]
    same, sparse = method("sparse-70").shape(spec, network, CompressConfig())
    assert same == spec
    for old, new in zip(before, sparse.parameters(), strict=True):
        if old.dim() == 1:
            assert torch.equal(old, new)
        else:
            assert int((new == 0).sum()) == round(0.7 * new.numel())
            assert old[new == 0].abs().max() <= old[new != 0].abs().min()


def test_two_of_every_four_weights_are_zero() -> None:
    zero = two_of_four(torch.tensor([[4.0, -1.0, 3.0, 2.0, 0.1, 0.2, -0.3, 0.4]]))
    assert zero.tolist() == [[False, True, False, True, True, True, False, False]]
    spec = make_spec("cnn", {}, input_shape=(1, 8, 8), num_outputs=3)
    _, sparse = method("sparse-2:4").shape(spec, trained(spec), CompressConfig())
    second = sparse[2].weight.flatten(1).reshape(-1, 4)  # type: ignore[index, operator, union-attr]
    assert torch.equal((second == 0).sum(1), torch.full((len(second),), 2))


@pytest.mark.parametrize(("epochs", "expected"), [(5, 5), (10, 8), (61, 31)])
def test_fine_tuning_is_as_training_was_but_shorter(epochs: int, expected: int) -> None:
    train = TrainConfig(epochs=epochs, learning_rate=4e-3, warmup_steps=10, weight_decay=0.3)
    asked = method("pruned-30").learning(CompressConfig(), train)
    assert asked is not None
    config, learning = asked
    assert config == train.model_copy(update={"epochs": expected, "warmup_steps": 0})
    assert learning.zeros_kept
    assert not learning.fake_quantized


def test_fine_tuning_is_what_the_recipe_says() -> None:
    config = CompressConfig.model_validate({"fine_tune": {"epochs": 9, "learning_rate": 1e-5}})
    asked = method("qat+int8").learning(config, TrainConfig(epochs=60))
    assert asked is not None
    assert (asked[0].epochs, asked[0].learning_rate) == (9, 1e-5)
    assert asked[1].fake_quantized
