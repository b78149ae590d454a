"""What every component does around its one call of the library."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from windlass.errors import InvalidInputError
from windlass.recipe import steps
from windlass.recipe.load import parse_recipe
from windlass.recipe.resolve import resolve
from windlass.recipe.runs import StepResult, new_run, read_run
from windlass.storage import Workspace
from windlass_components.step_runner import read_reference, run_step
from windlass_components.stopping import STOP_VARIABLE


@dataclass
class Artifact:
    path: str
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass
class Metrics:
    logged: dict[str, float] = field(default_factory=dict)

    def log_metric(self, metric: str, value: float) -> None:
        self.logged[metric] = value


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "results")


@pytest.fixture
def run_id(workspace: Workspace, tmp_path: Path) -> str:
    text = b'name: wine\ntask: tabular-classification\ndata: {source: "sklearn:wine"}\n'
    return new_run(workspace, resolve(parse_recipe(text, "recipe"), tmp_path))


def publish(_: object, workspace: Workspace) -> StepResult:
    reference, cached = workspace.once("prepare", "0" * 32, lambda output: (output / "rows").write_text("1") and None)
    summary: dict[str, float | int | str] = {"rows": 3, "task": "wine"}
    return StepResult(step="prepare", key="0" * 32, reference=reference, cached=cached, seconds=0.5, summary=summary)


def test_the_artifact_holds_a_reference_that_the_next_step_reads(
    workspace: Workspace, run_id: str, tmp_path: Path
) -> None:
    output, metrics = Artifact(str(tmp_path / "kfp" / "dataset")), Metrics()
    result = run_step("prepare", publish, root=workspace.uri, run_id=run_id, output=output, metrics=metrics)
    assert read_reference(output) == result.reference
    assert workspace.fetch(read_reference(output)).joinpath("rows").read_text() == "1"


def test_figures_go_to_the_metrics_and_texts_to_the_metadata(workspace: Workspace, run_id: str, tmp_path: Path) -> None:
    output, metrics = Artifact(str(tmp_path / "dataset")), Metrics()
    run_step("prepare", publish, root=workspace.uri, run_id=run_id, output=output, metrics=metrics)
    assert metrics.logged == {"rows": 3.0}
    assert output.metadata["task"] == "wine"
    assert output.metadata["cached"] is False


def test_a_step_leaves_a_page_of_markdown(workspace: Workspace, run_id: str, tmp_path: Path) -> None:
    page = Artifact(str(tmp_path / "page"))
    call = {"root": workspace.uri, "run_id": run_id, "output": Artifact(str(tmp_path / "dataset")), "page": page}
    run_step("prepare", steps.prepare, **call)
    text = Path(page.path).read_text()
    assert text.startswith("# Data: target\n")
    assert "| alcohol | number | feature |" in text


def test_a_step_is_recorded_in_its_run(workspace: Workspace, run_id: str, tmp_path: Path) -> None:
    run_step("prepare", publish, root=workspace.uri, run_id=run_id, output=Artifact(str(tmp_path / "dataset")))
    assert [result.step for result in read_run(workspace, run_id).steps] == ["prepare"]


def test_an_error_for_users_is_kept_for_the_pipeline_and_ends_with_its_code(
    workspace: Workspace, run_id: str, tmp_path: Path
) -> None:
    def refuse(*_: object) -> StepResult:
        raise InvalidInputError("row 3 of wine.csv has 4 values instead of 5")

    with pytest.raises(SystemExit) as ended:
        run_step("prepare", refuse, root=workspace.uri, run_id=run_id, output=Artifact(str(tmp_path / "dataset")))
    assert ended.value.code == 2
    error = json.loads(workspace.read_document(f"runs/{run_id}/error.json") or b"")
    assert error == {
        "type": "InvalidInputError",
        "message": "row 3 of wine.csv has 4 values instead of 5",
        "exit_code": 2,
        "step": "prepare",
    }


def test_sigterm_unwinds_the_step_and_publishes_nothing(workspace: Workspace, run_id: str, tmp_path: Path) -> None:
    def stopped_while_writing(_: object, there: Workspace) -> StepResult:
        there.once("prepare", "0" * 32, lambda _: os.kill(os.getpid(), signal.SIGTERM))
        raise AssertionError("the signal did not arrive")

    with pytest.raises(SystemExit) as ended:
        run_step(
            "prepare", stopped_while_writing, root=workspace.uri, run_id=run_id, output=Artifact(str(tmp_path / "d"))
        )
    assert ended.value.code == 75
    assert workspace.find("prepare", "0" * 32) is None


def test_no_step_starts_in_a_run_that_was_told_to_stop(
    workspace: Workspace, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STOP_VARIABLE, "1")
    with pytest.raises(SystemExit) as ended:
        run_step("prepare", publish, root=workspace.uri, run_id=run_id, output=Artifact(str(tmp_path / "dataset")))
    assert ended.value.code == 75
    assert workspace.find("prepare", "0" * 32) is None
