"""One torchrun for several trainings: each is as if it had one of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from windlass.models.spec import STEPS_NAME, WEIGHTS_NAME
from windlass.training import TrainingDivergedError, train
from windlass.training.documents import TrainRequest
from windlass.training.torchrun import Torchrun

pytestmark = pytest.mark.slow

MB = 1_000_000
TRAINS_AND_WAITS = """
import sys, time
from windlass.training import train
from windlass.training.documents import TrainRequest
from windlass.training.torchrun import Torchrun

request = TrainRequest.model_validate_json(sys.argv[1])
with Torchrun() as torchrun:
    train(request.config, task=request.task, spec=request.spec, module_path=None, dataset=request.dataset,
          output=request.output, work=request.work, threads=1, torchrun=torchrun)
    print("trained", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def torchrun() -> Iterator[Torchrun]:
    with Torchrun() as torchrun:
        yield torchrun


def launch(request: TrainRequest, torchrun: Torchrun | None) -> None:
    train(
        request.config,
        task=request.task,
        spec=request.spec,
        module_path=None,
        dataset=request.dataset,
        output=request.output,  # type: ignore[arg-type]
        work=request.work,
        threads=2,
        torchrun=torchrun,
    )


def anonymous_bytes(process: psutil.Process) -> int:
    """What a process holds by itself: its share of mapped files changes when others map them too, or no longer."""
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss_Anon:"))


def agents(process: psutil.Process) -> list[psutil.Process]:
    return [child for child in process.children() if "windlass.training.agent" in child.cmdline()]


def test_a_training_after_another_has_the_weights_of_one_with_a_torchrun_of_its_own(
    make_request: Callable[..., TrainRequest], torchrun: Torchrun
) -> None:
    config = {"parameters": {"dropout": 0.2}, "epochs": 2, "num_workers": 2, "seed": 3}
    before = make_request("before", task="image-classification", architecture="cnn", epochs=1, num_workers=2)
    after, alone = make_request("after", **config), make_request("alone", **config)
    launch(before, torchrun)
    (agent,) = agents(psutil.Process())
    launch(after, torchrun)
    assert agents(psutil.Process()) == [agent]
    launch(alone, None)
    for name in (STEPS_NAME, WEIGHTS_NAME):
        assert (after.output / name).read_bytes() == (alone.output / name).read_bytes()  # type: ignore[operator]


def test_memory_and_files_are_the_same_after_two_trainings_and_after_six(
    make_request: Callable[..., TrainRequest], torchrun: Torchrun
) -> None:
    def train_on(number: int) -> tuple[int, int, int]:
        launch(make_request(f"training-{number}", epochs=1), torchrun)
        (agent,) = agents(psutil.Process())
        family = [agent, *agent.children(recursive=True)]
        return sum(map(anonymous_bytes, family)), sum(each.num_fds() for each in family), len(family)

    for number in (1, 2):
        early_bytes, early_files, early_processes = train_on(number)
    for number in range(3, 7):
        late_bytes, late_files, late_processes = train_on(number)
    assert late_bytes - early_bytes < 2 * MB
    assert (late_files, late_processes) == (early_files, early_processes)


def test_after_a_training_that_failed_and_after_a_killed_torchrun_the_next_is_trained(
    make_request: Callable[..., TrainRequest], torchrun: Torchrun
) -> None:
    with pytest.raises(TrainingDivergedError):
        launch(make_request("fails", epochs=5, optimizer="sgd", learning_rate=1e20, max_grad_norm=None), torchrun)
    assert not agents(psutil.Process())
    for number in (1, 2):
        request = make_request(f"next-{number}", epochs=1)
        launch(request, torchrun)
        assert (request.output / WEIGHTS_NAME).exists()  # type: ignore[operator]
        (agent,) = agents(psutil.Process())
        agent.kill()


def test_a_torchrun_that_waits_for_the_next_training_ends_with_the_process_that_started_it(
    make_request: Callable[..., TrainRequest],
) -> None:
    request = make_request("only", epochs=1)
    command = [sys.executable, "-c", TRAINS_AND_WAITS, request.model_dump_json()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "trained\n"
        family = psutil.Process(process.pid).children(recursive=True)
        assert agents(psutil.Process(process.pid))
        os.kill(process.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive
