"""What is kept of a run, and what is said of one whose process was killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from windlass.errors import InvalidInputError
from windlass.recipe.load import check_recipe
from windlass.recipe.resolve import resolve
from windlass.recipe.runs import (
    StepError,
    StepResult,
    finish_run,
    hold_run,
    mark_cancelled,
    new_run,
    read_error,
    read_run,
    record_error,
    record_step,
    reopen_run,
)
from windlass.registry import MetricsMirror
from windlass.registry.tracking import connect
from windlass.storage import Reference, Workspace

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

WINE: dict[str, Any] = {"name": "wine", "task": "tabular-classification", "data": {"source": "sklearn:wine"}}
HOLD = """
import sys
from pathlib import Path
from windlass.recipe.runs import hold_run
from windlass.storage import Workspace
with hold_run(Workspace(sys.argv[1], Path(sys.argv[2])), sys.argv[3]):
    print("held", flush=True)
    sys.stdin.read()
"""


def opened(workspace: Workspace, base: Path) -> str:
    return new_run(workspace, resolve(check_recipe(WINE, "recipe.yaml"), base), command="windlass run wine.yaml")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """As with an object store: the root is shared, the local directory is this machine's."""
    return Workspace(tmp_path / "root", tmp_path / "here")


@pytest.mark.fault
def test_a_run_whose_process_was_killed_is_interrupted_on_its_machine_and_running_for_others(
    workspace: Workspace, tmp_path: Path
) -> None:
    elsewhere = Workspace(workspace.uri, tmp_path / "there")
    run_id = opened(workspace, tmp_path)
    assert read_run(workspace, run_id).status == "running", "until a process takes it up"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, workspace.uri, str(workspace.local), run_id],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert read_run(workspace, run_id).status == "running"
        process.send_signal(signal.SIGKILL)
    record = read_run(workspace, run_id)
    assert (record.status, record.command) == ("interrupted", "windlass run wine.yaml")
    assert read_run(elsewhere, run_id).status == "running"


def test_a_run_that_was_held_and_finished_is_what_it_ended_as(workspace: Workspace, tmp_path: Path) -> None:
    run_id = opened(workspace, tmp_path)
    with hold_run(workspace, run_id):
        assert read_run(workspace, run_id).status == "running"
        finish_run(workspace, run_id, 0)
    assert read_run(workspace, run_id).status == "succeeded"


def test_a_run_held_by_another_host_on_a_shared_disk_stays_running(workspace: Workspace, tmp_path: Path) -> None:
    run_id = opened(workspace, tmp_path)
    with hold_run(workspace, run_id):
        pass
    (holder,) = workspace.local.glob("runs/*/holder.lock")
    assert read_run(workspace, run_id).status == "interrupted"
    holder.write_text("another-host")
    assert read_run(workspace, run_id).status == "running"


def trained(workspace: Workspace, run_id: str, url: str, directory: Path) -> None:
    """The run has prepared and is training: metrics were mirrored."""
    reference = Reference(uri="u", digest="d")
    record_step(
        workspace, run_id, StepResult(step="prepare", key="k", reference=reference, cached=False, summary={"rows": 1})
    )
    history = directory / "history.jsonl"
    history.write_text(json.dumps({"epoch": 0, "train_loss": 0.5}) + "\n")
    with MetricsMirror(
        history, directory / "no", url, experiment="wine", run_id_tag=run_id, flush_timeout_s=60
    ) as mirror:
        assert mirror.flush()


@pytest.mark.slow
def test_the_end_of_a_run_is_the_end_of_its_run_in_mlflow(
    workspace: Workspace, tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    expected = {}
    for exit_code, ending in ((1, "FAILED"), (3, "FAILED"), (75, "KILLED"), (0, "FINISHED")):
        run_id = opened(workspace, tmp_path)
        trained(workspace, run_id, server.url, tmp_path)
        finish_run(workspace, run_id, exit_code)
        expected[run_id] = ending
    client = connect(server.url)
    runs = client.search_runs([client.get_experiment_by_name("wine").experiment_id])
    assert {run.data.tags["windlass.run_id"]: run.info.status for run in runs} == expected


def test_a_run_ends_also_when_its_tracking_server_is_gone(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    run_id = opened(workspace, tmp_path)
    reference = Reference(uri="u", digest="d")
    step = StepResult(step="prepare", key="k", reference=reference, cached=False, summary={"rows": 1})
    record_step(workspace, run_id, step)
    finish_run(workspace, run_id, 3)
    assert read_run(workspace, run_id).status == "failed"
    assert f"the run of {run_id} stays open in MLflow: MLflow at http://127.0.0.1:9" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("exit_code", "status"),
    [(0, "succeeded"), (1, "failed"), (2, "failed"), (3, "failed"), (4, "succeeded"), (75, "interrupted")],
)
def test_a_run_ends_as_its_exit_code_says(workspace: Workspace, tmp_path: Path, exit_code: int, status: str) -> None:
    run_id = opened(workspace, tmp_path)
    finish_run(workspace, run_id, exit_code)
    assert read_run(workspace, run_id).status == status


@pytest.mark.parametrize(
    ("exit_code", "status"), [(0, "succeeded"), (1, "interrupted"), (2, "failed"), (75, "interrupted")]
)
def test_what_fails_in_a_cancelled_run_was_interrupted(
    workspace: Workspace, tmp_path: Path, exit_code: int, status: str
) -> None:
    run_id = opened(workspace, tmp_path)
    mark_cancelled(workspace, run_id)
    finish_run(workspace, run_id, exit_code)
    assert read_run(workspace, run_id).status == status


def test_a_run_that_another_process_goes_on_with_has_no_word_of_the_first_ones_end(
    workspace: Workspace, tmp_path: Path
) -> None:
    run_id = opened(workspace, tmp_path)
    record_error(
        workspace, run_id, StepError(type="InterruptedRunError", message="stopped", exit_code=75, step="train")
    )
    finish_run(workspace, run_id, 75)
    reopen_run(workspace, run_id)
    record = read_run(workspace, run_id)
    assert (record.status, record.exit_code, record.finished) == ("running", None, None)
    assert read_error(workspace, run_id) is None


def test_an_error_of_another_version_names_the_folder_to_remove(workspace: Workspace, tmp_path: Path) -> None:
    run_id = opened(workspace, tmp_path)
    workspace.write_document(f"runs/{run_id}/error.json", b'{"said": "something else"}')
    with pytest.raises(InvalidInputError, match=rf"runs/{run_id}/error.json is of another version"):
        read_error(workspace, run_id)


def test_a_record_of_another_version_names_the_folder_to_remove(workspace: Workspace, tmp_path: Path) -> None:
    run_id = opened(workspace, tmp_path)
    workspace.write_document(f"runs/{run_id}/run.json", b'{"format_version": 99}')
    with pytest.raises(InvalidInputError, match=rf"runs/{run_id}/run\.json is of another version of windlass; remove"):
        read_run(workspace, run_id)
