"""Following training's metric files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from windlass.registry import MetricsMirror
from windlass.registry.mirror import MetricFile, send_missing
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
