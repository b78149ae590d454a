"""Fault 16: the pipeline is killed between steps; a rerun skips what is done, and there is no second version."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = [pytest.mark.fault, pytest.mark.slow]

RECIPE = """\
name: wine
task: tabular-classification
data: {source: "sklearn:wine"}
model: {architecture: linear}
train: {epochs: 2, global_batch_size: 32, num_workers: 1}
evaluate: {latency_seconds: 0.05, bootstrap: 20}
"""


def start(directory: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "windlass_cli", "run", "wine.yaml", "--json"],
        cwd=directory,
        env={**os.environ, "MLFLOW_TRACKING_URI": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def kill_everything_after(process: subprocess.Popen[str], step: str) -> None:
    """SIGKILL for the command line, the pipeline and its steps, as soon as `step` is reported as finished."""
    assert process.stderr is not None
    for line in process.stderr:
        event = json.loads(line)
        if event["kind"] == "step" and event["step"] == step and event["status"] == "finished":
            break
    family = psutil.Process(process.pid).children(recursive=True)
    for member in [psutil.Process(process.pid), *family]:
        if member.is_running():
            member.send_signal(signal.SIGKILL)
    process.communicate()
    gone_by_s = time.monotonic() + 20
    while any(member.is_running() and member.status() != psutil.STATUS_ZOMBIE for member in family):
        assert time.monotonic() < gone_by_s
        time.sleep(0.1)


def run(directory: Path) -> dict[str, Any]:
    process = start(directory)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    result: dict[str, Any] = json.loads(out)
    return result


def test_a_pipeline_killed_between_steps_goes_on_and_registers_one_version(tmp_path: Path) -> None:
    (tmp_path / "wine.yaml").write_text(RECIPE)
    kill_everything_after(start(tmp_path), "train")
    again = run(tmp_path)
    cached = {step["step"]: step["cached"] for step in again["run"]["steps"]}
    assert cached["prepare"]
    assert cached["train"]
    assert not cached["compress"]
    assert again["registration"]["version"] == 1

    kill_everything_after(start(tmp_path), "register")
    third = run(tmp_path)
    assert all(step["cached"] for step in third["run"]["steps"])
    assert third["registration"]["version"] == 1
    listed = subprocess.run(
        [sys.executable, "-m", "windlass_cli", "models", "show", "wine", "--json"],
        cwd=tmp_path,
        env={**os.environ, "MLFLOW_TRACKING_URI": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert [version["version"] for version in json.loads(listed.stdout)] == [1]


def test_a_changed_budget_runs_nothing_before_select(tmp_path: Path) -> None:
    (tmp_path / "wine.yaml").write_text(RECIPE)
    run(tmp_path)
    (tmp_path / "wine.yaml").write_text(RECIPE + "budget: {max_size: 10B}\n")
    process = start(tmp_path)
    out, _ = process.communicate(timeout=240)
    result = json.loads(out)
    assert process.returncode == 3
    assert {step["step"]: step["cached"] for step in result["run"]["steps"]} == {
        "prepare": True,
        "train": True,
        "compress": True,
        "evaluate": True,
        "select": False,
    }
    assert result["registration"] is None
    assert all(candidate["fits"] is False for candidate in result["candidates"])


def test_a_changed_alias_selects_nothing_again_and_moves_to_the_same_version(tmp_path: Path) -> None:
    (tmp_path / "wine.yaml").write_text(RECIPE)
    first = run(tmp_path)
    (tmp_path / "wine.yaml").write_text(RECIPE + "register: {alias: challenger}\n")
    second = run(tmp_path)
    assert {step["step"] for step in second["run"]["steps"] if not step["cached"]} == {"register"}
    assert second["registration"] == first["registration"] | {"alias": "challenger"}
    report = json.loads(Path(second["report"]).with_name("report.json").read_text())
    assert report["verdict"]["test_reads"] == 1
