"""`windlass evaluate` as a user types it, on versions that real runs registered."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from windlass.data.errors import DataError
from windlass.evaluation.config import EvaluateConfig
from windlass.variants.config import ServeConfig
from windlass_cli.commands.evaluate import OutputExistsError, evaluate_version

# MLflow's own use of what its libraries deprecate.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")]

ROWS = 240
RECIPE = """\
name: shapes
task: tabular-classification
data: {source: shapes.csv, target: kind}
model: {architecture: linear}
train: {epochs: 12, learning_rate: 3e-2}
evaluate: {latency_seconds: 0.05, bootstrap: 50}
"""
Rows = list[dict[str, object]]
Evaluate = Callable[..., dict[str, Any]]


def rows(start: int, count: int) -> Rows:
    return [
        {"area": area, "colour": "red" if area % 2 else "blue", "kind": "large" if area > ROWS / 2 else "small"}
        for area in range(start, start + count)
    ]


def write(path: Path, found: Rows) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, found[0])
        writer.writeheader()
        writer.writerows(found)
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which the recipe has run."""
    directory = tmp_path_factory.mktemp("evaluate")
    # 7 has no common divisor with the number of rows: every area once, in no order
    write(directory / "shapes.csv", [rows(index * 7 % ROWS, 1)[0] for index in range(ROWS)])
    (directory / "shapes.yaml").write_text(RECIPE, encoding="utf-8")
    done = typed(directory, "run", "shapes.yaml", "--json")
    assert done.returncode == 0, done.stderr
    return directory


def typed(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "windlass_cli", *words]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, timeout=240)


@pytest.fixture
def evaluate(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Evaluate:
    """The command in this process: a dozen of them would take a minute to start."""
    monkeypatch.chdir(place)

    def call(data: str, *, output: Path | None = None, bad_rows: str = "refuse") -> dict[str, Any]:
        evaluate_version(
            "shapes",
            data,
            output=output,
            bad_rows=bad_rows,
            config=EvaluateConfig(latency_seconds=0.05, bootstrap=50),
            serve=ServeConfig(),
            root=".windlass",
            tracking_uri=None,
            as_json=True,
        )
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return call


def test_other_rows_in_another_column_order_are_measured_and_reported(place: Path) -> None:
    flipped = [{name: row[name] for name in ("kind", "colour", "area")} for row in rows(60, 120)]
    for row in flipped[:30]:
        row["kind"] = "large"  # all of them are small: a quarter of the answers is wrong now
    write(place / "other.csv", flipped)
    done = typed(place, "evaluate", "shapes", "--data", "other.csv", "-o", "other", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["measurement"]["rows"] == 120
    assert found["measurement"]["quality"]["accuracy"]["point"] == pytest.approx(0.75, abs=0.05)
    assert found["registered"]["quality"]["accuracy"]["point"] > 0.9
    page = (place / "other" / "report.html").read_text(encoding="utf-8")
    assert "on other.csv; when it was registered, on validation" in page
    assert json.loads((place / "other" / "measurement.json").read_text())["rows"] == 120


def test_rows_of_one_class_only_are_measured_and_never_written_over(place: Path, evaluate: Evaluate) -> None:
    write(place / "small.csv", rows(0, 40))
    assert evaluate("small.csv")["measurement"]["quality"]["accuracy"]["point"] > 0.9
    with pytest.raises(OutputExistsError, match="shapes-1-on-small exists; name another folder with --output"):
        evaluate("small.csv")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "round"}, r"classes that the model does not know: 'round' \(1 rows\); it knows 'large', 'small'"),
        ({"area": "wide"}, r"column 'area': 'wide' is not a number .* have such rows dropped \(--bad-rows drop\)"),
        ({"kind": ""}, "the target is missing"),
    ],
)
def test_a_row_that_does_not_fit_is_named_and_nothing_is_written(
    place: Path, evaluate: Evaluate, change: dict[str, object], message: str
) -> None:
    write(place / "wrong.csv", [*rows(0, 20), {**rows(20, 1)[0], **change}])
    with pytest.raises(DataError, match=message):
        evaluate("wrong.csv")
    assert not (place / "shapes-1-on-wrong").exists()


def test_bad_rows_can_be_dropped(place: Path, evaluate: Evaluate) -> None:
    write(place / "dirty.csv", [*rows(0, 40), {**rows(20, 1)[0], "area": "wide"}])
    assert evaluate("dirty.csv", bad_rows="drop")["measurement"]["rows"] == 40


def test_a_missing_column_is_named(place: Path, evaluate: Evaluate) -> None:
    write(place / "narrow.csv", [{"area": 1, "kind": "small"}] * 3)
    with pytest.raises(DataError, match=r"narrow\.csv has no column 'colour'"):
        evaluate("narrow.csv")


def test_images_for_a_model_of_a_table_are_refused(evaluate: Evaluate) -> None:
    with pytest.raises(DataError, match="the source is images, which the task cannot read as table"):
        evaluate("sklearn:digits")
