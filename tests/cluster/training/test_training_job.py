"""Training as a job of a real cluster: two pods, an object store, and what is done to them."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from windlass.cluster.jobs import Claim, DistributedJob
from windlass.cluster.launcher import Launcher
from windlass.models.spec import STEPS_NAME
from windlass.training import TrainingDivergedError, TrainingMemoryError, train
from windlass.training.cluster import TrainingPods
from windlass.training.documents import TRAINING_NAME, TrainingSummary
from windlass.training.relay import PREFIX

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
        for path in pathlib.Path("/proc").glob("[0-9]*/comm"):
            if path.read_text().strip() == "windlass-worker":
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


def evict(training: Any, pod: str) -> None:
    """As the drain of its node does."""
    name = next(each.metadata.name for each in training.pods() if each.metadata.name.endswith(pod))
    namespace = training.cluster.settings.namespace
    training.cluster.core.create_namespaced_pod_eviction(name, namespace, {"metadata": {"name": name}})


def test_a_training_whose_pod_is_evicted_goes_on_in_another_from_the_store(make_training: MakeTraining) -> None:
    training = make_training(epochs=30)
    evicted = list[str]()

    def evict_a_rank() -> None:
        wait_until(lambda: bool(training.checkpoints()))
        evicted.extend(pod.metadata.uid for pod in training.pods() if pod.metadata.name.endswith("worker-1"))
        evict(training, "worker-1")

    evicter = threading.Thread(target=evict_a_rank)
    evicter.start()
    model = training.run()
    evicter.join()
    assert evicted[0] not in [pod.metadata.uid for pod in training.pods()]
    assert started_at(training)[-1] > 0, "from a checkpoint"
    assert TrainingSummary.read(model / TRAINING_NAME).steps == len(losses(model / STEPS_NAME)) == 30 * 19


def started_at(training: Any) -> list[int]:
    """The steps at which the present container of the first pod began to train."""
    (name,) = [pod.metadata.name for pod in training.pods() if pod.metadata.name.endswith("worker-0")]
    log = training.cluster.core.read_namespaced_pod_log(name, training.cluster.settings.namespace)
    events = [json.loads(line.removeprefix(PREFIX)) for line in log.splitlines() if line.startswith(PREFIX)]
    return [event["step"] for event in events if event["kind"] == "train-started"]


@pytest.fixture
def claim(cluster: Any) -> Iterator[str]:
    """A volume of the cluster's default class, which all pods of one node can write."""
    namespace, name = cluster.settings.namespace, "checkpoints"
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "100Mi"}}}
    cluster.core.create_namespaced_persistent_volume_claim(namespace, {"metadata": {"name": name}, "spec": spec})
    yield name
    cluster.core.delete_namespaced_persistent_volume_claim(name, namespace)


def test_checkpoints_on_a_volume_claim_are_gone_on_from_and_cleared_without_touching_the_store(
    make_training: MakeTraining, claim: str
) -> None:
    training = make_training(epochs=30)
    in_store = list[int]()

    def kill_a_rank() -> None:
        wait_until(lambda: (training.work / STEPS_NAME).exists() and len(losses(training.work / STEPS_NAME)) > 3 * 19)
        in_store.extend(training.checkpoints())
        kill_worker(training, "worker-1")

    killer = threading.Thread(target=kill_a_rank)
    killer.start()
    model = training.run(TrainingPods(cpu=0.25, memory_bytes=10**9, checkpoint_claim=claim))
    killer.join()
    assert in_store == []
    assert started_at(training)[-1] >= 2 * 19, "from the volume"
    assert TrainingSummary.read(model / TRAINING_NAME).steps == len(losses(model / STEPS_NAME)) == 30 * 19
    assert left_on(claim, training) == []


def left_on(claim: str, training: Any) -> list[str]:
    """What a pod sees on the claim, hidden files apart."""
    settings = training.cluster.settings
    looks = DistributedJob(
        name="looks",
        namespace=settings.namespace,
        image=settings.image,
        command=("sh", "-c", "ls /claim"),
        volumes=(Claim("/claim", claim),),
    )
    lines: list[str] = []
    Launcher(training.cluster.api, kind="job").run(looks, lines.append, lambda _: None)
    return lines


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
