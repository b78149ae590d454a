"""A training in two pods that share nothing but an object store, each pod a real process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from training_pods import KEY, PodRuns, s3_root
from windlass import models
from windlass.models import make_spec
from windlass.models.spec import HISTORY_NAME, STEPS_NAME, WEIGHTS_NAME
from windlass.training import TrainingDivergedError, TrainingFailedError
from windlass.training.config import TrainConfig
from windlass.training.documents import TRAINING_NAME, Learning, TrainingSummary, TrainRequest
from windlass.training.relay import LogRelay
from windlass.training.reports import rebuild_error
from windlass.training.worker import TrainingRun
from windlass.training.workers import Workers

__all__ = ["s3_root"]  # a fixture

pytestmark = pytest.mark.slow

FAILS_ON_THE_SECOND_WORKER = """
import os
from torch import nn

class Net(nn.Module):
    def __init__(self, input_shape, num_outputs):
        super().__init__()
        self.layer = nn.Linear(*input_shape, num_outputs)

    def forward(self, x):
        if self.training and os.environ.get("RANK") == "1":
            raise LookupError("the forward pass of a user")
        return self.layer(x)
"""


@pytest.fixture
def make_pods(s3_root: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., PodRuns]]:
    made: list[PodRuns] = []

    def make(count: int = 2, **config: object) -> PodRuns:
        name = f"{s3_root}/{request.node.name[:40]}"
        made.append(PodRuns(name, tmp_path, TrainConfig.model_validate({"num_workers": count, **config}), count))
        return made[-1]

    yield make
    for pods in made:
        pods.close()


def losses(path: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in path.read_text().splitlines()]


def test_two_pods_publish_once_the_model_that_one_machine_makes(
    make_pods: Callable[..., PodRuns],
    make_request: Callable[..., TrainRequest],
    digits: Path,
    workers: Workers,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    config = {"epochs": 2, "global_batch_size": 50, "learning_rate": 5e-4}
    alone = make_request("alone", task="image-classification", architecture="cnn", **config)
    TrainingRun(alone, workers, lambda: False).carry_out()
    pods = make_pods(**config)
    pods.request("image-classification", alone.spec, digits)
    pods.start()
    assert pods.wait() == [0, 0], pods.log(0).read_text() + pods.log(1).read_text()
    model = pods.model()
    assert losses(model / STEPS_NAME) == pytest.approx(losses(alone.output / STEPS_NAME), rel=1e-4)  # type: ignore[operator]
    assert TrainingSummary.read(model / TRAINING_NAME).num_workers == 2
    assert not pods.workspace.list_documents(f"work/train/{KEY}/")
    manifests = [name for name in pods.workspace.list_documents("steps/train/") if name.endswith("/manifest.json")]
    assert manifests == [f"steps/train/{KEY}/manifest.json"]

    followed = tmp_path / "followed"
    followed.mkdir()
    others: list[str] = []
    with LogRelay(followed, others.append) as relay:
        for line in pods.log(0).read_text().splitlines():
            relay(line)
    assert losses(followed / STEPS_NAME) == pytest.approx(losses(model / STEPS_NAME), rel=1e-6)
    assert (followed / HISTORY_NAME).read_text() == (model / HISTORY_NAME).read_text()
    assert not any("@windlass" in line for line in others)
    assert "train: " in capfd.readouterr().err


def test_pods_fetch_the_weights_to_start_from_and_the_teacher(
    make_pods: Callable[..., PodRuns], make_request: Callable[..., TrainRequest], numbers: Path, workers: Workers
) -> None:
    config = {"epochs": 1, "learning_rate": 5e-4}
    pods, alone = make_pods(**config), make_request("alone", **config)
    for name in ("start", "teacher"):
        (pods.directory / name).mkdir()
        models.save(pods.directory / name, alone.spec, models.build(alone.spec))
    start, teacher = (pods.workspace.publish(f"steps/train/{n}", pods.directory / n) for n in ("start", "teacher"))
    learning = Learning(start=start, teacher=teacher, label_weight=0.3)
    taught = {"learning": learning, "start": pods.directory / "start", "teacher": pods.directory / "teacher"}
    TrainingRun(alone.model_copy(update=taught), workers, lambda: False).carry_out()
    pods.request("tabular-regression", alone.spec, numbers, learning=learning)
    pods.start()
    assert pods.wait() == [0, 0], pods.log(0).read_text() + pods.log(1).read_text()
    assert losses(pods.model() / STEPS_NAME) == pytest.approx(losses(alone.output / STEPS_NAME), rel=1e-4)  # type: ignore[operator]


def test_pods_with_a_shared_volume_keep_their_checkpoints_there(
    make_pods: Callable[..., PodRuns], make_request: Callable[..., TrainRequest], numbers: Path, tmp_path: Path
) -> None:
    pods = make_pods(epochs=2)
    pods.checkpoint_directory = tmp_path / "volume"
    pods.checkpoint_directory.mkdir()
    pods.request("tabular-regression", make_request("spec").spec, numbers)
    pods.start()
    assert pods.wait() == [0, 0], pods.log(0).read_text() + pods.log(1).read_text()
    assert (pods.model() / WEIGHTS_NAME).is_file()
    assert not any(pods.checkpoint_directory.iterdir())
    assert not pods.workspace.list_documents("work/")


def test_a_diverging_training_says_so_in_the_termination_message_of_each_pod(
    make_pods: Callable[..., PodRuns], make_request: Callable[..., TrainRequest], numbers: Path
) -> None:
    pods = make_pods(epochs=5, optimizer="sgd", learning_rate=1e20, max_grad_norm=None)
    pods.request("tabular-regression", make_request("spec").spec, numbers)
    pods.start()
    assert pods.wait() == [1, 1]
    for number in range(2):
        ending = pods.ending(number)
        assert not ending.retryable
        error = rebuild_error(ending.error)
        assert isinstance(error, TrainingDivergedError)
        assert "try a smaller train.learning_rate" in str(error)
    pods.start()
    assert pods.wait(60) == [1, 1]  # started again, they only repeat it


def test_a_users_error_in_one_pod_ends_the_other_with_the_same_words(
    make_pods: Callable[..., PodRuns], numbers: Path, tmp_path: Path
) -> None:
    module = tmp_path / "net.py"
    module.write_text(FAILS_ON_THE_SECOND_WORKER)
    spec = make_spec("net.py:Net", {}, input_shape=(6,), num_outputs=1, module_path=module)
    pods = make_pods(epochs=1)
    pods.request("tabular-regression", spec, numbers, module)
    pods.start()
    assert pods.wait() == [1, 1]
    for number in range(2):
        assert len(pods.termination(number).read_bytes()) <= 4096
        error = rebuild_error(pods.ending(number).error)
        assert isinstance(error, TrainingFailedError)
        assert error.rank == 1
        assert "LookupError: the forward pass of a user" in str(error)
