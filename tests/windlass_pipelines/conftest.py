from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from windlass.recipe.load import load_recipe
from windlass.recipe.resolve import resolve
from windlass.recipe.runs import new_run
from windlass.storage import Workspace

RECIPE = """\
name: wine
task: tabular-classification
data: {source: "sklearn:wine"}
train: {epochs: 4, global_batch_size: 32, num_workers: 1}
compress: {candidates: [int8]}
evaluate: {latency_seconds: 0.05, bootstrap: 20}
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "wine.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "results")


@pytest.fixture
def open_run(recipe: Path, workspace: Workspace) -> Callable[..., str]:
    """Opens a run of the recipe with overrides."""
    return lambda *overrides: new_run(workspace, resolve(load_recipe(recipe, overrides), recipe.parent))


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts a process that runs an opened run, leading a process group of its own as under a shell."""

    def start_run(workspace: Workspace, run_id: str, last_step: str) -> subprocess.Popen[str]:
        code = (
            "import sys; from windlass.storage import Workspace; from windlass_pipelines.local import run_locally\n"
            f"outcome = run_locally(Workspace({workspace.uri!r}), {run_id!r}, last_step={last_step!r},\n"
            "    on_event=lambda event: print(event, flush=True))\n"
            "print(outcome.problem, file=sys.stderr); sys.exit(outcome.exit_code)"
        )
        return subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, "MLFLOW_TRACKING_URI": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return start_run
