"""Scores appear whole or not at all, in the format of their suffix."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pyarrow import csv, parquet

from windlass.variants import Signature, TensorSpec
from windlass_cli.scores_file import OutputError, check_output, open_scores, scores_table

INPUTS = (TensorSpec(name="input", dtype="float32", shape=(None, 1)),)
CLASSES = Signature(
    inputs=INPUTS,
    outputs=(TensorSpec(name="probabilities", dtype="float32", shape=(None, 2)),),
    class_names=("no", "yes"),
)
NUMBER = Signature(inputs=INPUTS, outputs=(TensorSpec(name="value", dtype="float32", shape=(None,)),))
OUTPUTS = {"probabilities": np.array([[0.75, 0.25], [0.25, 0.75]], dtype=np.float32)}
ROWS = [
    {"prediction": "no", "probability_no": 0.75, "probability_yes": 0.25},
    {"prediction": "yes", "probability_no": 0.25, "probability_yes": 0.75},
]


def test_every_format_holds_the_same_rows(tmp_path: Path) -> None:
    for suffix in ("parquet", "csv", "jsonl"):
        with open_scores(tmp_path / f"s.{suffix}", CLASSES) as scores:
            scores.write(scores_table(CLASSES, OUTPUTS))
    assert parquet.read_table(tmp_path / "s.parquet").to_pylist() == ROWS
    assert csv.read_csv(tmp_path / "s.csv").to_pylist() == ROWS
    assert [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()] == ROWS


def test_a_regression_has_one_column(tmp_path: Path) -> None:
    with open_scores(tmp_path / "s.parquet", NUMBER) as scores:
        scores.write(scores_table(NUMBER, {"value": np.array([1.5], dtype=np.float32)}))
    assert parquet.read_table(tmp_path / "s.parquet").to_pylist() == [{"prediction": 1.5}]


def test_an_error_half_way_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("old")

    def fail_half_way() -> None:
        with open_scores(path, CLASSES) as scores:
            scores.write(scores_table(CLASSES, OUTPUTS))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_half_way()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_output_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"use one of \.parquet, \.csv, \.jsonl"):
        check_output(tmp_path / "s.xlsx", force=False)
    with pytest.raises(OutputError, match="there is no folder"):
        check_output(tmp_path / "absent" / "s.csv", force=False)
    (tmp_path / "s.csv").touch()
    with pytest.raises(OutputError, match="exists already; choose another name or add --force"):
        check_output(tmp_path / "s.csv", force=False)
    check_output(tmp_path / "s.csv", force=True)
