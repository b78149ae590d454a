"""Fault 6 from pods: the network between the two pods of a training is cut on their node, and all else works on."""

from __future__ import annotations

import os
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import permutations
from typing import Any

import pytest

from windlass.models.spec import STEPS_NAME
from windlass.training.cluster import TrainingPods
from windlass.training.documents import TRAINING_NAME, TrainingSummary
from windlass.training.errors import TrainingTimeoutError

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.cluster_node,
    pytest.mark.fault,
    pytest.mark.slow,
    pytest.mark.timeout(600),
]

VARIABLE = "WINDLASS_TEST_NODE_IPTABLES"
"""A command that changes the packet filter of the node on which the pods are, such as `iptables`."""
CUT_S = 45
"""Longer than the 30 s after which an exchange fails."""


def iptables(*words: str) -> None:
    subprocess.run([*shlex.split(os.environ[VARIABLE]), "-w", *words], check=True, timeout=30)


@contextmanager
def cut(training: Any) -> Iterator[None]:
    """No packet passes between the pods, and nobody is told; the store and the API server are still reached."""
    addresses = [pod.status.pod_ip for pod in training.pods()]
    rules = [("FORWARD", "-s", one, "-d", other, "-j", "DROP") for one, other in permutations(addresses, 2)]
    for rule in rules:
        iptables("-I", *rule)
    try:
        yield
    finally:
        for rule in rules:
            iptables("-D", *rule)


@pytest.fixture(autouse=True)
def _may_cut() -> None:
    if not os.environ.get(VARIABLE):
        pytest.skip(f"{VARIABLE} names no command that changes the node's packet filter")


def wait_until(reached: Callable[[], bool], seconds: float = 240) -> None:
    deadline_s = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.2)


def test_fault_6_pods_that_lose_one_another_say_so_by_rank_and_go_on_when_the_network_is_back(
    make_training: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    training = make_training(epochs=30)

    def cut_for_a_while() -> None:
        wait_until(lambda: bool(training.checkpoints()))
        with cut(training):
            time.sleep(CUT_S)

    cutter = threading.Thread(target=cut_for_a_while)
    cutter.start()
    model = training.run()
    cutter.join()
    said = capfd.readouterr().err
    assert "worker 0 lost the others" in said
    assert all(pod.status.container_statuses[0].restart_count for pod in training.pods())
    steps = (model / STEPS_NAME).read_text().splitlines()
    assert TrainingSummary.read(model / TRAINING_NAME).steps == len(steps) == 30 * 19
    published = training.workspace.list_documents(f"steps/train/{training.key}/")
    assert [name for name in published if name.endswith("/manifest.json")] == [
        f"steps/train/{training.key}/manifest.json"
    ]


def test_fault_6_a_network_that_stays_cut_ends_the_training_within_its_timeout_by_rank_and_publishes_nothing(
    make_training: Callable[..., Any],
) -> None:
    training = make_training(epochs=200)
    with ExitStack() as stack:

        def cut_for_good() -> None:
            wait_until(lambda: bool(training.checkpoints()))
            stack.enter_context(cut(training))

        cutter = threading.Thread(target=cut_for_good)
        cutter.start()
        began_s = time.monotonic()
        with pytest.raises(
            TrainingTimeoutError, match=r"training_timeout, 75 s.*before, .*worker [01] lost the others"
        ):
            training.run(TrainingPods(cpu=0.25, memory_bytes=10**9, timeout_s=75))
        assert time.monotonic() - began_s < 75 + 30
        cutter.join()
    assert training.workspace.find("train", training.key) is None
    assert training.checkpoints(), "the same command goes on from here"
