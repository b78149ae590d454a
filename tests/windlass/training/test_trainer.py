"""Whole trainings by one worker in this process, on real bundles, with real checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from windlass import models
from windlass.errors import InvalidInputError
from windlass.models.spec import HISTORY_NAME, STEPS_NAME, WEIGHTS_NAME
from windlass.storage import Workspace
from windlass.training.checkpoint import TrainState
from windlass.training.documents import TRAINING_NAME, Publication, TrainingSummary, TrainRequest
from windlass.training.errors import TrainingInterruptedError
from windlass.training.history import read_epochs
from windlass.training.worker import TrainingRun
from windlass.training.workers import Workers

MakeRequest = Callable[..., TrainRequest]


def never() -> bool:
    return False


def carry_out(request: TrainRequest, workers: Workers, stop: Callable[[], bool] = never) -> TrainState:
    return TrainingRun(request, workers, stop).carry_out()


def lines(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def stop_after(agreements: int) -> Callable[[], bool]:
    asked = iter(range(10**9))
    return lambda: next(asked) >= agreements


def test_digits_are_learned_and_the_best_epoch_is_published(make_request: MakeRequest, workers: Workers) -> None:
    request = make_request("digits", task="image-classification", architecture="cnn", epochs=4, learning_rate=3e-3)
    state = carry_out(request, workers)
    _, network = models.load(request.output)
    epochs = read_epochs(request.output / HISTORY_NAME)
    summary = TrainingSummary.read(request.output / TRAINING_NAME)
    assert state.step == 4 * 20
    assert [record.epoch for record in epochs] == [1, 2, 3, 4]
    assert summary.best_metric == max(record.metric or 0 for record in epochs) > 0.95
    assert not network.training


def test_regression_is_measured_in_the_targets_own_unit(make_request: MakeRequest, workers: Workers) -> None:
    request = make_request("numbers", epochs=15, learning_rate=1e-2)
    carry_out(request, workers)
    last = read_epochs(request.output / HISTORY_NAME)[-1]
    assert last.metric is not None
    assert last.metric > 0.9
    assert last.quality["rmse"] > 0.5
    assert len(lines(request.output / STEPS_NAME)) == 15 * 6


def test_a_training_stopped_in_mid_epoch_ends_with_the_same_weights(
    make_request: MakeRequest, workers: Workers
) -> None:
    config = {"epochs": 3, "global_batch_size": 32, "parameters": {"dropout": 0.3}}
    whole, parted = make_request("whole", **config), make_request("parted", **config)
    carry_out(whole, workers)
    with pytest.raises(TrainingInterruptedError, match=r"saved at step \d+; run the same command again"):
        carry_out(parted, workers, stop_after(1))
    assert carry_out(parted, workers).step == 3 * 11
    assert (parted.output / WEIGHTS_NAME).read_bytes() == (whole.output / WEIGHTS_NAME).read_bytes()
    assert lines(parted.output / STEPS_NAME) == lines(whole.output / STEPS_NAME)
    assert [line["step"] for line in lines(parted.output / STEPS_NAME)] == list(range(1, 34))


def test_another_machine_continues_from_the_checkpoint_below_the_root(
    make_request: MakeRequest, workers: Workers, tmp_path: Path
) -> None:
    config = {"epochs": 4, "global_batch_size": 32, "keep_checkpoints": 1}
    whole, parted = make_request("whole", **config), make_request("parted", **config)
    carry_out(whole, workers)

    def on(machine: str) -> TrainRequest:
        work = tmp_path / machine / "work"
        work.mkdir(parents=True)
        place = Publication(root=str(tmp_path / "root"), local=tmp_path / machine, key="k", checkpoints="root")
        return parted.model_copy(update={"output": None, "publication": place, "work": work, "control": work})

    with pytest.raises(TrainingInterruptedError, match=r"saved at step \d+"):
        carry_out(on("first"), workers, stop_after(2))
    assert carry_out(on("second"), workers).step == 4 * 11
    workspace = Workspace(tmp_path / "root")
    reference = workspace.find("train", "k")
    assert reference is not None
    model = workspace.fetch(reference)
    assert (model / WEIGHTS_NAME).read_bytes() == (whole.output / WEIGHTS_NAME).read_bytes()
    assert lines(model / STEPS_NAME) == lines(whole.output / STEPS_NAME)
    assert len(lines(model / HISTORY_NAME)) == 4
    assert not workspace.list_documents("work/")


def test_curves_have_no_line_twice_after_a_crash(make_request: MakeRequest, workers: Workers) -> None:
    request = make_request("crash", epochs=2)
    carry_out(request, workers)
    with (request.work / STEPS_NAME).open("a") as file:
        file.write('{"step": 13, "loss": 1.0}\n{"step": 1')
    carry_out(request, workers)
    assert [line["step"] for line in lines(request.work / STEPS_NAME)] == list(range(1, 13))
    assert [line["epoch"] for line in lines(request.work / HISTORY_NAME)] == [1, 2]


def test_the_newest_checkpoints_and_the_best_are_kept(make_request: MakeRequest, workers: Workers) -> None:
    # The rate is so high that later epochs are worse than the first ones.
    request = make_request("kept", epochs=8, learning_rate=0.3, schedule="constant", keep_checkpoints=2)
    state = carry_out(request, workers)
    kept = {path.name for path in request.work.glob("step-*")}
    assert kept == {"step-000042", "step-000048", f"step-{state.best_step:06d}"}


def test_the_published_weights_are_those_of_the_best_epoch(make_request: MakeRequest, workers: Workers) -> None:
    config = {"learning_rate": 0.3, "schedule": "constant", "keep_checkpoints": 1}
    request = make_request("best", epochs=8, **config)
    state = carry_out(request, workers)
    shorter = make_request("shorter", epochs=state.best_epoch, **config)
    carry_out(shorter, workers)
    assert state.best_epoch < 8
    assert (request.output / WEIGHTS_NAME).read_bytes() == (shorter.output / WEIGHTS_NAME).read_bytes()


def test_early_stopping_waits_for_its_patience(make_request: MakeRequest, workers: Workers) -> None:
    stopping = {"patience_epochs": 2, "min_delta": 10.0}
    state = carry_out(make_request("early", epochs=50, early_stopping=stopping), workers)
    assert state.stopped_early
    assert state.epoch == 3


def test_checkpoints_of_another_training_are_refused(make_request: MakeRequest, workers: Workers) -> None:
    request = make_request("first", epochs=1)
    carry_out(request, workers)
    other = request.model_copy(update={"config": request.config.model_copy(update={"learning_rate": 0.5})})
    with pytest.raises(InvalidInputError, match="checkpoints of another training"):
        carry_out(other, workers)


def test_another_number_of_workers_is_the_same_training(make_request: MakeRequest) -> None:
    request = make_request("digest")
    more = request.model_copy(update={"config": request.config.model_copy(update={"num_workers": 4})})
    assert more.training_digest("x") == request.training_digest("x")
    assert request.training_digest("x") != request.training_digest("y")


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rmsprop"])
def test_every_optimizer_is_continued_from_its_checkpoint(
    make_request: MakeRequest, workers: Workers, optimizer: str
) -> None:
    config = {"epochs": 2, "optimizer": optimizer, "learning_rate": 1e-3}
    whole, parted = make_request("whole", **config), make_request("parted", **config)
    carry_out(whole, workers)
    with pytest.raises(TrainingInterruptedError):
        carry_out(parted, workers, stop_after(2))
    carry_out(parted, workers)
    assert (parted.output / WEIGHTS_NAME).read_bytes() == (whole.output / WEIGHTS_NAME).read_bytes()


def test_batch_norm_over_several_workers_is_reported(make_request: MakeRequest, workers: Workers) -> None:
    request = make_request("norm", epochs=1, parameters={"batch_norm": True})
    run = TrainingRun(request, workers, never)
    assert run._warnings() == ()
    run.workers = Workers(0, 2, torch.device("cpu"))
    assert "each of the 2 workers used the statistics of its own part" in run._warnings()[0]


@pytest.mark.parametrize(
    ("task", "config", "message"),
    [
        ("tabular-regression", {"class_weights": "balanced"}, "has no classes"),
        ("tabular-regression", {"augment": {"flip": True}}, "has no images"),
    ],
)
def test_settings_that_the_task_cannot_honour_are_refused(
    make_request: MakeRequest, workers: Workers, task: str, config: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        carry_out(make_request("refused", task=task, **config), workers)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_mixed_precision_without_cuda_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    with pytest.raises(InvalidInputError, match=r"train\.precision: bf16 needs a CUDA GPU"):
        Workers.join("bf16")
