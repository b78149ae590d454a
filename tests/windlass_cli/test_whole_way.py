"""From a person's own CSV to scores, by the commands that they type."""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

QUICK = ("train.epochs=3", "compress.candidates=[int8]", "evaluate.latency_seconds=0.05", "evaluate.bootstrap=20")


def windlass(*arguments: str, cwd: Path) -> str:
    reply = subprocess.run(
        [sys.executable, "-m", "windlass_cli", *arguments],
        cwd=cwd,
        env={**os.environ, "MLFLOW_TRACKING_URI": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert reply.returncode == 0, reply.stderr
    return reply.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with mine.csv whose recipe was written by `init` and run."""
    directory = tmp_path_factory.mktemp("project")
    draw = random.Random(0)  # noqa: S311 - data for a test
    with (directory / "mine.csv").open("w") as file:
        file.write("a,b,colour,y\n")
        for _ in range(200):
            a, b = draw.gauss(0, 1), draw.gauss(0, 1)
            file.write(f"{a:.3f},{b:.3f},{draw.choice(['red', 'blue'])},{'yes' if a + b > 0 else 'no'}\n")
    windlass("init", "mine.csv", "--target", "y", cwd=directory)
    settings = [word for setting in QUICK for word in ("--set", setting)]
    (directory / "result.json").write_text(windlass("run", "mine.yaml", "--json", *settings, cwd=directory))
    return directory


def test_init_and_run_end_with_a_registered_version_and_what_to_type_next(project: Path) -> None:
    result: dict[str, Any] = json.loads((project / "result.json").read_text())
    assert result["problem"] is None
    assert result["registration"]["version"] == 1
    assert result["winner"] in [candidate["candidate"] for candidate in result["candidates"]]
    assert result["next"][0] == "windlass serve mine"
    assert Path(result["report"]).is_file()


def test_runs_and_models_list_it(project: Path) -> None:
    (run,) = json.loads(windlass("runs", "--json", cwd=project))
    assert run["status"] == "succeeded"
    assert "✓" in windlass("runs", "show", run["run_id"], cwd=project)
    assert json.loads(windlass("models", "--json", cwd=project)) == [{"name": "mine", "aliases": {"champion": 1}}]
    assert "champion" in windlass("models", "show", "mine", cwd=project)


def test_predict_scores_every_row_in_order_and_the_same_for_any_format(project: Path) -> None:
    reply = json.loads(windlass("predict", "mine", "mine.csv", "-o", "scores.csv", "--json", cwd=project))
    assert (reply["version"], reply["rows"]) == (1, 200)
    with (project / "mine.csv").open() as file:
        rows = list(csv.DictReader(file))
    with (project / "rows.jsonl").open("w") as file:
        for row in reversed(rows):
            file.write(json.dumps({"colour": row["colour"], "a": float(row["a"]), "b": float(row["b"])}) + "\n")
    windlass("predict", "mine@champion", "rows.jsonl", "-o", "scores.jsonl", cwd=project)
    with (project / "scores.csv").open() as file:
        from_csv = [row["prediction"] for row in csv.DictReader(file)]
    from_json = [json.loads(line)["prediction"] for line in (project / "scores.jsonl").read_text().splitlines()]
    assert from_csv == from_json[::-1]
    assert set(from_csv) <= {"yes", "no"}
