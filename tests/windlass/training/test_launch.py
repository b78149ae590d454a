"""Trainings started as users start them: torchrun, worker processes, errors that come back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from windlass.models import make_spec
from windlass.models.spec import STEPS_NAME
from windlass.training import TrainingDivergedError, TrainingFailedError, train
from windlass.training.documents import EpochRecord, TrainRequest
from windlass.training.worker import TrainingRun
from windlass.training.workers import Workers

pytestmark = pytest.mark.slow

FAILS_IN_TRAINING = """
from torch import nn

class Net(nn.Module):
    def __init__(self, input_shape, num_outputs):
        super().__init__()
        self.layer = nn.Linear(*input_shape, num_outputs)

    def forward(self, x):
        if self.training:
            raise LookupError("the forward pass of a user")
        return self.layer(x)
"""


def launch(request: TrainRequest, **more: object) -> None:
    train(
        request.config,
        task=request.task,
        spec=request.spec,
        dataset=request.dataset,
        output=request.output,
        work=request.work,
        threads=2,
        **{"module_path": None, **more},  # type: ignore[arg-type]
    )


def losses(path: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in path.read_text().splitlines()]


def test_one_and_two_workers_have_the_same_loss_curve(
    make_request: Callable[..., TrainRequest], workers: Workers
) -> None:
    config = {
        "task": "image-classification",
        "architecture": "cnn",
        "epochs": 3,
        "global_batch_size": 50,
        # Adam multiplies the rounding of sums in another order; a higher rate does so beyond 1e-4.
        "learning_rate": 5e-4,
        "class_weights": "balanced",
        "augment": {"shift": 1, "erase": 0.2},
    }
    one, two = make_request("one", **config), make_request("two", num_workers=2, **config)
    TrainingRun(one, workers, lambda: False).carry_out()
    told: list[EpochRecord] = []
    launch(two, on_metrics=told.append)
    expected = losses(one.output / STEPS_NAME)
    assert len(expected) == 3 * 26
    assert losses(two.output / STEPS_NAME) == pytest.approx(expected, rel=1e-4)
    assert [record.epoch for record in told] == [1, 2, 3]


def test_a_diverging_training_comes_back_as_its_own_error(make_request: Callable[..., TrainRequest]) -> None:
    request = make_request("diverges", epochs=5, optimizer="sgd", learning_rate=1e20, max_grad_norm=None)
    with pytest.raises(TrainingDivergedError, match=r"at step \d+ is (inf|nan); try a smaller train.learning_rate"):
        launch(request)


def test_an_error_in_a_worker_comes_back_with_its_traceback(
    make_request: Callable[..., TrainRequest], tmp_path: Path
) -> None:
    module = tmp_path / "net.py"
    module.write_text(FAILS_IN_TRAINING)
    spec = make_spec("net.py:Net", {}, input_shape=(6,), num_outputs=1, module_path=module)
    request = make_request("fails", epochs=1).model_copy(update={"spec": spec})
    with pytest.raises(TrainingFailedError, match="LookupError: the forward pass of a user") as caught:
        launch(request, module_path=module)
    assert "in forward" in caught.value.traceback


def test_a_model_of_a_users_own_module_is_published_with_its_source(
    make_request: Callable[..., TrainRequest], workers: Workers, tmp_path: Path
) -> None:
    module = tmp_path / "net.py"
    module.write_text(FAILS_IN_TRAINING.replace("if self.training", "if False"))
    spec = make_spec("net.py:Net", {}, input_shape=(6,), num_outputs=1, module_path=module)
    request = make_request("own", epochs=1).model_copy(update={"spec": spec})
    (request.work / "module").mkdir()
    (request.work / "module" / "module.py").write_bytes(module.read_bytes())
    TrainingRun(request, workers, lambda: False).carry_out()
    assert (request.output / "module.py").read_bytes() == module.read_bytes()
