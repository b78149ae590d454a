"""A run whose whole process group is killed: what `windlass runs` says of it, and that it goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.fault]

RECIPE = """\
name: wine
task: tabular-classification
data: {source: "sklearn:wine"}
train: {epochs: 2000, global_batch_size: 32, early_stopping: {patience_epochs: 2000}}
"""


def start(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "windlass_cli", *arguments],
        cwd=directory,
        env={**os.environ, "MLFLOW_TRACKING_URI": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def windlass(directory: Path, *arguments: str) -> str:
    with start(directory, *arguments) as process:
        out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return out


def run_of(directory: Path) -> Any:
    (run,) = json.loads(windlass(directory, "runs", "--json"))
    return run


def test_a_killed_run_is_interrupted_and_its_command_is_shown(tmp_path: Path) -> None:
    (tmp_path / "wine.yaml").write_text(RECIPE)
    with start(tmp_path, "run", "wine.yaml", "--set", "train.num_workers=1", "--step", "train", "--json") as process:
        assert process.stderr is not None
        for line in process.stderr:
            event = json.loads(line)
            if event["kind"] == "progress" and event["name"] == "train":
                break
        running = run_of(tmp_path)
        assert running["status"] == "running"
        family = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGKILL)
        for member in family:
            if member.is_running():
                member.send_signal(signal.SIGKILL)
        process.communicate()
    assert run_of(tmp_path)["status"] == "interrupted"
    command = "windlass run wine.yaml --set train.num_workers=1 --step train"
    assert running["command"] == command
    for shown in (windlass(tmp_path, "runs"), windlass(tmp_path, "runs", "show", running["run_id"])):
        assert "interrupted" in shown
        assert f"to go on where wine was interrupted: {command}" in shown
