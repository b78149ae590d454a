"""A candidate's networks and its variant, made, trained and published for real."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest

from windlass import models
from windlass.compression.config import CompressConfig
from windlass.compression.make import MODEL_FILE
from windlass.compression.methods import parse_chain
from windlass.compression.tree import Tree, Trunk
from windlass.recipe.keys import step_key
from windlass.storage import Workspace
from windlass.training.config import TrainConfig
from windlass.training.place import ThisMachine
from windlass.training.torchrun import Torchrun

pytestmark = pytest.mark.slow


@pytest.fixture
def make_tree(images_bundle: Path, make_model: Callable[..., Path], tmp_path: Path) -> Iterator[Callable[[], Tree]]:
    """Over a CNN that was never trained, three epochs of fine-tuning."""
    model = make_model("image-classification", images_bundle, "cnn")
    workspace = Workspace(tmp_path / "root")
    trunk = Trunk(
        model=workspace.publish("steps/train/trunk", model),
        module=None,
        train=TrainConfig(epochs=3, learning_rate=3e-3),
        dataset=workspace.publish("steps/prepare/images", images_bundle),
        task="image-classification",
    )
    with Torchrun() as torchrun:
        place = ThisMachine(1, torchrun)
        yield lambda: Tree(trunk, CompressConfig(), workspace=workspace, place=place, key=step_key, threads=1)


@pytest.fixture
def tree(make_tree: Callable[[], Tree]) -> Tree:
    return make_tree()


def torchruns() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "windlass.training.agent" in child.cmdline()]


def served(tree: Tree, name: str) -> onnx.ModelProto:
    return onnx.load(tree.workspace.fetch(tree.variant(parse_chain(name))) / MODEL_FILE)


def published(tree: Tree, step: str) -> int:
    return sum(name.endswith("/manifest.json") for name in tree.workspace.list_documents(f"steps/{step}/"))


def test_a_pruned_network_trained_for_int8_is_served_in_int8_alone_and_its_parents_are_made_once(tree: Tree) -> None:
    whole, pruned = served(tree, "int8"), served(tree, "pruned-50+int8")
    aware = served(tree, "pruned-50+qat+int8")
    assert published(tree, "train") == 1 + 2  # the model itself, pruned, and trained for int8
    assert published(tree, "networks") == 2
    assert aware.ByteSize() == pytest.approx(pruned.ByteSize(), rel=0.02)
    assert pruned.ByteSize() < 0.45 * whole.ByteSize()

    kinds = {node.op_type for node in aware.graph.node}
    assert not {kind for kind in kinds if "fake" in kind.lower()}
    floats = [c for c in aware.graph.initializer if c.data_type == onnx.TensorProto.FLOAT and len(c.dims) > 1]
    assert sum(int(np.prod(c.dims)) for c in floats) <= 6, "only the scaling of pixels is left in fp32"

    networks = [
        tree.workspace.fetch(tree.network(parse_chain(name).network)) for name in ("pruned-50", "pruned-50+qat+int8")
    ]
    (spec, before), (aware_spec, after) = map(models.load, networks)
    assert aware_spec == spec
    assert set(after.state_dict()) == set(before.state_dict())
    assert (tree.drop(parse_chain("pruned-50+qat+int8")) or 0) < 0, "three epochs of training beat none"


def test_torchrun_starts_ahead_where_something_is_trained_and_only_while_the_uncompressed_variant_is_to_be_made(
    make_tree: Callable[[], Tree],
) -> None:
    tree, chains = make_tree(), [parse_chain(name) for name in ("fp32", "int8", "pruned-50+int8")]
    tree.expect(chains[:2])
    assert not torchruns()
    tree.expect(chains)
    (ahead,) = torchruns()
    for chain in chains:
        tree.variant(chain)
    assert torchruns() == [ahead], "it trained"
    ahead.kill()
    ahead.wait()
    make_tree().expect(chains)
    assert not torchruns()
