"""Training as a job of a real cluster: two pods, an object store, and what is done to them."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from windlass.models.spec import STEPS_NAME
from windlass.training import TrainingDivergedError, TrainingMemoryError, train
from windlass.training.cluster import TrainingPods
from windlass.training.documents import TRAINING_NAME, TrainingSummary

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

MakeTraining = Callable[..., Any]


def losses(path: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in path.read_text().splitlines()]


def wait_until(reached: Callable[[], bool], seconds: float = 240) -> None:
    deadline_s = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.2)


def kill_worker(training: Any, pod: str) -> None:
    """SIGKILL the process that trains in a pod."""
    name = next(each.metadata.name for each in training.pods() if each.metadata.name.endswith(pod))
    script = """if True:
        import os, pathlib, signal
        for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            if b"windlass.training.worker" in path.read_bytes().split(b"\\0")[:4]:
                os.kill(int(path.parent.name), signal.SIGKILL)
    """
    command = ["kubectl", "-n", training.cluster.settings.namespace, "exec", name, "--", "python", "-c", script]
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.parametrize("kind", ["pytorchjob", "trainjob"])
def test_two_pods_train_as_one_machine_does(make_training: MakeTraining, tmp_path: Path, kind: str) -> None:
    training = make_training(kind, epochs=3)
    model = training.run()
    output, work = tmp_path / "alone", tmp_path / "alone-work"
    output.mkdir()
    work.mkdir()
    train(
        training.config,
        task="image-classification",
        spec=training.spec,
        module_path=None,
        dataset=training.workspace.fetch(training.dataset),
        output=output,
        work=work,
        threads=1,
    )
    assert losses(model / STEPS_NAME)[:20] == pytest.approx(losses(output / STEPS_NAME)[:20], rel=1e-4)
    assert losses(training.work / STEPS_NAME) == pytest.approx(losses(model / STEPS_NAME), rel=1e-6)
    assert not training.workspace.list_documents(f"work/train/{training.key}/")


def test_fault_5_a_killed_rank_goes_on_from_the_store_within_60_s(make_training: MakeTraining) -> None:
    training = make_training(epochs=30)
    seconds = list[float]()

    def kill_a_rank() -> None:
        wait_until(lambda: bool(training.checkpoints()))
        kill_worker(training, "worker-1")
        began_s, newest = time.monotonic(), training.checkpoints()[-1]
        # Two epochs further: what was on its way when the rank died is not meant.
        wait_until(lambda: training.checkpoints()[-1] > newest + 19)
        seconds.append(time.monotonic() - began_s)

    killer = threading.Thread(target=kill_a_rank)
    killer.start()
    model = training.run()
    killer.join()
    assert seconds[0] < 60
    assert [pod.status.container_statuses[0].restart_count for pod in training.pods()] == [1, 1]
    assert TrainingSummary.read(model / TRAINING_NAME).steps == len(losses(model / STEPS_NAME)) == 30 * 19


def test_fault_7_a_pod_over_its_memory_is_reported_with_what_to_change(make_training: MakeTraining) -> None:
    training = make_training(epochs=1)
    began_s = time.monotonic()
    with pytest.raises(TrainingMemoryError, match=r"limit is 200\.0 MB.*raise resources\.cluster\.worker\.memory"):
        training.run(TrainingPods(cpu=0.25, memory_bytes=200 * 10**6))
    assert time.monotonic() - began_s < 240


def test_a_diverging_training_comes_back_as_its_own_error_and_is_not_repeated(make_training: MakeTraining) -> None:
    training = make_training(epochs=5, optimizer="sgd", learning_rate=1e20, max_grad_norm=None)
    with pytest.raises(TrainingDivergedError, match=r"at step \d+ is (inf|nan); try a smaller train.learning_rate"):
        training.run()
    restarts = [status.restart_count for pod in training.pods() for status in pod.status.container_statuses]
    assert max(restarts, default=0) <= 1
