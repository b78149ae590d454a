"""`windlass run --on cluster` as a user types it, in a directory and with a root of the test's own."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cluster_installation import Installation
from windlass.cluster.settings import ClusterSettings
from windlass.models.spec import STEPS_NAME
from windlass.storage import Reference, Workspace
from windlass_pipelines.cluster import job_name, storage_from_outside

WINE = """\
name: wine
task: tabular-classification
data: {source: "sklearn:wine"}
model: {architecture: linear}
train: {epochs: 3, global_batch_size: 32, num_workers: 2}
evaluate: {latency_seconds: 0.05, bootstrap: 20}
resources: {cluster: {worker: {cpu: 0.1, memory: 1GB}, step: {cpu: 0.1}}}
"""


def published(result: dict[str, Any], workspace: Workspace, step: str) -> Path:
    """What a step of a run has published, on this machine."""
    reference = next(each["reference"] for each in result["run"]["steps"] if each["step"] == step)
    return workspace.fetch(Reference.model_validate(reference))


def losses(model: Path) -> list[float]:
    """Of each step of a model's training."""
    return [json.loads(line)["loss"] for line in (model / STEPS_NAME).read_text().splitlines()]


def without_storage(outage_s: float) -> None:
    """Stop the cluster's object store, and start it again after that time."""
    _change_storage("WINDLASS_TEST_STOP_STORAGE")
    try:
        time.sleep(outage_s)
    finally:
        _change_storage("WINDLASS_TEST_START_STORAGE")


def _change_storage(variable: str) -> None:
    command = os.environ.get(variable)
    if not command:
        pytest.skip(f"{variable} names no command that stops or starts the object store")
    subprocess.run(shlex.split(command), check=True, timeout=120)


@dataclass
class Typist:
    """Types commands in one directory, for one root below the installation's bucket.

    As a context it ends, at its own end, the commands that a failed test has left running.
    """

    installation: Installation
    directory: Path
    prefix: str
    environment: dict[str, str] = field(default_factory=dict)
    _started: list[subprocess.Popen[str]] = field(default_factory=list)

    def __enter__(self) -> Typist:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            process.kill()
            process.communicate()

    @property
    def settings(self) -> ClusterSettings:
        return self.installation.settings

    @property
    def root(self) -> str:
        return f"{self.settings.storage.root}/{self.prefix}"

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.root, self.directory / ".windlass", s3=storage_from_outside(self.settings, None))

    @property
    def place(self) -> tuple[str, ...]:
        return "--namespace", self.settings.namespace, "--root", self.root

    def start(self, *words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "windlass_cli", *words],
            cwd=self.directory,
            env={**os.environ, "MLFLOW_TRACKING_URI": "", **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def run(self, *words: str, expect: int = 0) -> Any:
        """A command with --json to its end."""
        process = self.start(*words, "--json")
        out, err = process.communicate(timeout=280)
        assert process.returncode == expect, f"{out}\n{err[-6000:]}"
        return json.loads(out)

    def on_cluster(self, recipe: str, *words: str, expect: int = 0) -> dict[str, Any]:
        result: dict[str, Any] = self.run("run", recipe, "--on", "cluster", *self.place, *words, expect=expect)
        return result

    def start_and_wait_for(self, recipe: str, text: str, *words: str) -> tuple[subprocess.Popen[str], str]:
        """Start a run on the cluster; returns once its events contain `text`, with the run's id."""
        process = self.start("run", recipe, "--on", "cluster", *self.place, *words, "--json")
        assert process.stderr is not None
        seen: list[str] = []
        for line in process.stderr:
            seen.append(line)
            if text in line:
                texts = [json.loads(each).get("text", "") for each in seen]
                return process, next(said for said in texts if " is started" in said).split()[0]
        pytest.fail(f"the run ended before it said {text!r}:\n{''.join(seen)[-4000:]}")

    def job(self, run_id: str) -> str:
        return job_name(self.root, run_id)
