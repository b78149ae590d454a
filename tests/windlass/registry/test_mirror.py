"""Following training's metric files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from windlass.registry import MetricsMirror, RegistryUnreachableError
from windlass.registry.mirror import Ending, MetricFile, end_run, send_missing
from windlass.registry.tracking import connect

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def test_a_line_that_is_still_being_written_waits(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    file = MetricFile(path, "", "step")
    assert list(file.new_lines()) == []
    path.write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "lo')
    assert [position for position, _, _ in file.new_lines()] == [("loss", 1)]
    with path.open("a") as more:
        more.write('ss": 0.25}\n')
    assert [position for position, _, _ in file.new_lines()] == [("loss", 2)]


def test_a_step_that_training_repeats_from_its_checkpoint_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    path.write_text("".join(json.dumps({"step": step, "loss": 1.0}) + "\n" for step in (1, 2, 3, 2, 3, 4)))
    assert [step for (_, step), _, _ in MetricFile(path, "", "step").new_lines()] == [1, 2, 3, 4]


def test_a_file_that_was_cut_back_to_its_checkpoint_is_followed_again(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    path.write_text("".join(json.dumps({"step": step, "loss": 1.0}) + "\n" for step in (1, 2, 3)))
    file = MetricFile(path, "", "step")
    list(file.new_lines())
    path.write_text("".join(json.dumps({"step": step, "loss": 1.0}) + "\n" for step in (1, 4)))
    assert [step for (_, step), _, _ in file.new_lines()] == [4]


def test_only_finite_numbers_are_metrics(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    line = {"epoch": 0, "step": 9, "loss": float("nan"), "note": "x", "ok": True, "quality": {"f1": 0.5}, "none": None}
    path.write_text(json.dumps(line) + "\nnot json\n[1]\n")
    assert [position for position, _, _ in MetricFile(path, "", "epoch").new_lines()] == [("quality/f1", 0)]


def test_a_second_process_sends_only_what_the_first_did_not(sqlite: str, tmp_path: Path) -> None:
    history, steps = tmp_path / "history.jsonl", tmp_path / "steps.jsonl"
    history.write_text(json.dumps({"epoch": 0, "train_loss": 0.5}) + "\n")
    with MetricsMirror(history, steps, sqlite, experiment="digits", run_id_tag="r", flush_timeout_s=60) as mirror:
        assert mirror.flush()
    with history.open("a") as more:
        more.write(json.dumps({"epoch": 1, "train_loss": 0.25}) + "\n")
    client = connect(sqlite)
    (run,) = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    for _ in range(2):
        send_missing(client, sqlite, run.info.run_id, history, steps)
    points = client.get_metric_history(run.info.run_id, "train_loss")
    assert sorted((point.step, point.value) for point in points) == [(0, 0.5), (1, 0.25)]


def mirrored(uri: str, directory: Path, run_id_tag: str) -> None:
    """What training leaves behind: a run with a metric."""
    history = directory / f"{run_id_tag}.jsonl"
    history.write_text(json.dumps({"epoch": 0, "train_loss": 0.5}) + "\n")
    with MetricsMirror(
        history, directory / "none.jsonl", uri, experiment="ends", run_id_tag=run_id_tag, flush_timeout_s=60
    ) as mirror:
        assert mirror.flush()


def statuses(uri: str) -> dict[str, str]:
    client = connect(uri)
    runs = client.search_runs([client.get_experiment_by_name("ends").experiment_id])
    return {run.data.tags["windlass.run_id"]: run.info.status for run in runs}


@pytest.mark.slow
def test_a_run_that_did_not_come_to_register_is_ended_on_the_server_and_no_other_is(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endings: dict[str, Ending] = {"failed": "FAILED", "stopped": "KILLED", "trained-only": "FINISHED"}
    for tag in (*endings, "goes-on"):
        mirrored(server.url, tmp_path, tag)
    for tag, ending in endings.items():
        end_run(server.url, experiment="ends", run_id_tag=tag, ending=ending)
        end_run(server.url, experiment="ends", run_id_tag=tag, ending="FINISHED")
    end_run(server.url, experiment="absent", run_id_tag="x", ending="FAILED")
    assert statuses(server.url) == {**endings, "goes-on": "RUNNING"}
    monkeypatch.setenv("MLFLOW_RUN_ID", "given by somebody else")
    end_run(server.url, experiment="ends", run_id_tag="goes-on", ending="FAILED")
    assert statuses(server.url)["goes-on"] == "RUNNING"


def test_a_server_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(RegistryUnreachableError, match=r"MLflow at http://127\.0\.0\.1:9 does not answer"):
        end_run("http://127.0.0.1:9", experiment="ends", run_id_tag="x", ending="FAILED")
