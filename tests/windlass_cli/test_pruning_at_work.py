"""`windlass prune` beside real runs and real signals."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from windlass.recipe.pruning import plan_pruning, remove_unneeded
from windlass.recipe.runs import RunRecord, list_runs
from windlass.storage import Workspace

pytestmark = [
    pytest.mark.slow,
    pytest.mark.fault,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]

RECIPE = """\
name: wine
task: tabular-classification
data: {source: "sklearn:wine"}
train: {epochs: 60, num_workers: 1, global_batch_size: 32, early_stopping: {patience_epochs: 60}}
"""
OLD_S = 30 * 86400.0


def start(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "windlass_cli", *arguments],
        cwd=directory,
        env={**os.environ, "MLFLOW_TRACKING_URI": ""},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def let_be_old(workspace: Workspace) -> None:
    """All that is there was made a month ago."""
    for record in list_runs(workspace):
        path = workspace.local / "runs" / record.run_id / "run.json"
        then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=OLD_S)
        path.write_text(
            RunRecord.model_validate_json(path.read_bytes()).model_copy(update={"started": then}).model_dump_json()
        )
    then_s = time.time() - OLD_S
    for path in workspace.local.rglob("*"):
        os.utime(path, (then_s, then_s))


def prune(workspace: Workspace) -> set[str]:
    plan = plan_pruning(workspace, tracking_uri="sqlite:////nonexistent/mlflow.db", keep_runs=1)
    return {item.name for item in remove_unneeded(workspace, plan)}


def kill(process: subprocess.Popen[str]) -> None:
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    for member in family:
        if member.is_running():
            member.send_signal(signal.SIGKILL)
    process.communicate()


def references(workspace: Workspace, run: RunRecord) -> dict[str, str]:
    return {step.step: str(Path(step.reference.uri).relative_to(workspace.uri)) for step in run.steps}


def test_a_killed_run_goes_on_while_what_is_old_is_removed_around_it(tmp_path: Path) -> None:
    (tmp_path / "wine.yaml").write_text(RECIPE)
    workspace = Workspace(tmp_path / ".windlass")
    quick = ("--step", "train", "--set", "train.epochs=1")
    with start(tmp_path, "run", "wine.yaml", *quick) as process:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    (old,) = list_runs(workspace)
    let_be_old(workspace)
    with start(tmp_path, "run", "wine.yaml", "--step", "train") as process:
        wait_until(lambda: bool(list(workspace.local.glob("work/train/*/step-*/manifest.json"))))
        kill(process)
    assert [run.status for run in list_runs(workspace)] == ["interrupted", "succeeded"]

    removed: set[str] = set()
    with start(tmp_path, "run", "wine.yaml", "--step", "train") as process:
        while process.poll() is None:
            removed |= prune(workspace)
            time.sleep(0.3)
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    assert removed == {f"runs/{old.run_id}", references(workspace, old)["train"]}, "no checkpoint, no data"
    run = list_runs(workspace)[0]
    assert [step.cached for step in run.steps] == [True, False], "the data are those that were prepared a month ago"
    assert references(workspace, run)["prepare"] == references(workspace, old)["prepare"]
    for step in run.steps:
        workspace.fetch(step.reference)


def wait_until(condition: Any, timeout_s: float = 120.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_ctrl_c_ends_a_pruning_with_whole_results_and_the_same_command_goes_on(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / ".windlass")
    reference, _ = workspace.once("variants", "first", lambda output: _fill(output))
    for number in range(3000):
        shutil.copytree(reference.uri, workspace.local / "steps" / "variants" / f"copy-{number}")
    let_be_old(workspace)
    variants = workspace.local / "steps" / "variants"
    with start(tmp_path, "prune", "--yes") as process:
        wait_until(lambda: sum(1 for _ in variants.iterdir()) < 3001)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "freed, the same command goes on from there" in errors
    left = list(variants.iterdir())
    assert left
    for directory in left:
        assert sorted(path.name for path in directory.iterdir()) == ["a.bin", "b.bin", "manifest.json"]
    with start(tmp_path, "prune", "--yes") as process:
        out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert f"{len(left)} removed" in out
    assert not list(variants.iterdir())


def _fill(output: Path) -> None:
    for name in ("a.bin", "b.bin"):
        (output / name).write_bytes(b"x" * 1000)


def test_without_a_terminal_nothing_is_removed_unless_it_is_said(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / ".windlass")
    workspace.once("variants", "first", _fill)
    let_be_old(workspace)
    with start(tmp_path, "prune") as process:
        out, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "nothing was removed: this is no terminal to ask at; add --yes, or --dry-run to look first" in errors
    assert "2.3 KB" in out
    assert workspace.find("variants", "first") is not None


def test_what_is_removed_is_told_as_the_progress_of_all_other_work_is(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / ".windlass")
    for key in ("first", "second"):
        workspace.once("variants", key, _fill)
    let_be_old(workspace)
    with start(tmp_path, "prune", "--yes", "--json") as process:
        out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    events = [json.loads(line) for line in errors.splitlines()]
    assert [event["kind"] for event in (events[0], events[1], events[-1])] == ["started", "progress", "finished"]
    assert {(event["name"], event["unit"]) for event in events} == {("removing", "MB")}
    removed_mb = sum(item["size_bytes"] for item in json.loads(out)["items"]) / 1e6
    assert events[0]["total"] == events[-1]["done"] == pytest.approx(removed_mb)
