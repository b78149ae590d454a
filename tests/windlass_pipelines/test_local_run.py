"""The pipeline on this machine: real steps in real processes, stopped by real signals."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from typing import Any

import psutil
import pytest

from windlass.recipe.runs import read_run
from windlass.storage import Workspace
from windlass_pipelines.local import run_locally, scrubbed_environment

OpenRun = Callable[..., str]
Start = Callable[..., "Popen[str]"]


def wait_for(process: Popen[str], *texts: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if all(text in line for text in texts):
            return
    raise AssertionError(f"{texts} never came: {process.stderr.read() if process.stderr else ''}")


def wait_until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


def test_a_step_sees_only_what_it_may_of_the_environment() -> None:
    environment = {"PATH": "/bin", "AWS_REGION": "x", "WINDLASS_DATA": "/d", "PYTHONPATH": "/evil", "MY_TOKEN": "s"}
    kept = scrubbed_environment(environment)
    assert {name for name in kept if name in environment} == {"PATH", "AWS_REGION", "WINDLASS_DATA"}
    assert scrubbed_environment(environment, ["MY_TOKEN", "ABSENT"]) == {**kept, "MY_TOKEN": "s"}


def test_files_in_the_current_directory_are_not_imported_by_steps(
    workspace: Workspace, open_run: OpenRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kfp.py").write_text("raise SystemExit('the wrong kfp')")
    monkeypatch.chdir(tmp_path)
    assert run_locally(workspace, open_run(), last_step="prepare").exit_code == 0


def test_a_step_runs_with_what_it_needs_and_nothing_after_it(workspace: Workspace, open_run: OpenRun) -> None:
    run_id = open_run()
    events: list[dict[str, Any]] = []
    outcome = run_locally(workspace, run_id, last_step="prepare", on_event=events.append)
    assert (outcome.exit_code, outcome.problem) == (0, None)
    assert [(event["step"], event["status"]) for event in events if event["kind"] == "step"] == [
        ("prepare", "started"),
        ("prepare", "finished"),
    ]
    record = read_run(workspace, run_id)
    assert (record.status, [result.step for result in record.steps]) == ("succeeded", ["prepare"])


def test_a_mistake_in_the_data_ends_the_run_with_its_message_and_code(
    workspace: Workspace, open_run: OpenRun, recipe: Path, tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text("a,y\n" + "".join(f"{n},{n % 2}\n" for n in range(40)) + "1,2,3\n")
    run_id = open_run("data.source=t.csv", "data.target=y")
    outcome = run_locally(workspace, run_id, last_step="train")
    assert outcome.exit_code == 2
    assert outcome.problem is not None
    assert outcome.problem.startswith("step prepare: ")
    assert "t.csv" in outcome.problem
    assert "42" in outcome.problem
    assert (read_run(workspace, run_id).status, read_run(workspace, run_id).exit_code) == ("failed", 2)


@pytest.mark.slow
def test_two_runs_at_once_publish_a_step_once(workspace: Workspace, open_run: OpenRun, start: Start) -> None:
    run_ids = [open_run(), open_run()]
    processes = [start(workspace, run_id, "prepare") for run_id in run_ids]
    for process in processes:
        process.communicate(timeout=120)
    assert [process.returncode for process in processes] == [0, 0]
    results = [read_run(workspace, run_id).steps[0] for run_id in run_ids]
    assert results[0].reference == results[1].reference
    assert sorted(result.cached for result in results) == [False, True]


@pytest.mark.slow
def test_a_stopped_run_saves_ends_with_75_and_goes_on_from_there(
    workspace: Workspace, open_run: OpenRun, start: Start
) -> None:
    long = ("train.epochs=2000", "train.early_stopping={patience_epochs: 2000}")
    process = start(workspace, run_id := open_run(*long), "train")
    wait_for(process, "'progress'", "'train'")
    os.killpg(process.pid, signal.SIGINT)
    _, problem = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "step train: " in problem
    assert read_run(workspace, run_id).status == "interrupted"
    assert list((workspace.local / "work" / "train").glob("*/step-*/manifest.json"))

    process = start(workspace, open_run(*long), "train")
    wait_for(process, "'prepare'", "'finished'", "'cached': True")
    wait_for(process, "'progress'", "'train'")
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)


@pytest.mark.slow
@pytest.mark.fault
def test_a_run_whose_command_line_is_killed_ends_too(workspace: Workspace, open_run: OpenRun, start: Start) -> None:
    process = start(workspace, run_id := open_run("train.epochs=2000"), "train")
    wait_for(process, "'progress'", "'train'")
    left_behind = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    wait_until(lambda: not any(child.is_running() for child in left_behind))
    assert read_run(workspace, run_id).status == "interrupted"


@pytest.mark.slow
@pytest.mark.fault
def test_a_step_that_is_killed_fails_the_run_with_the_end_of_its_log(
    workspace: Workspace, open_run: OpenRun, start: Start
) -> None:
    process = start(workspace, run_id := open_run("train.epochs=2000"), "train")
    wait_for(process, "'progress'", "'train'")
    steps = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "kfp.dsl.executor_main" in child.cmdline() and child.name().startswith("python")
    ]
    steps[0].kill()
    _, problem = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "a step ended unexpectedly; the end of" in problem
    assert "pipeline.log" in problem
    assert read_run(workspace, run_id).status == "failed"
