"""Plans of a small recipe in a root where it has not run, and where it has."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from windlass.planning.documents import PlannedStep, RunPlan
from windlass.planning.plan import plan_run
from windlass.recipe.load import load_recipe
from windlass.recipe.resolve import resolve
from windlass.recipe.runs import RunRecord, list_runs
from windlass.storage import Workspace

pytestmark = pytest.mark.slow

RECIPE = """\
name: wine
task: tabular-classification
data: {source: "sklearn:wine"}
model: {architecture: linear}
train: {epochs: 3, global_batch_size: 32}
compress: {candidates: [int8]}
evaluate: {latency_seconds: 0.05, bootstrap: 20}
"""


def plan(root: Path, *overrides: str) -> RunPlan:
    recipe = root.parent / "wine.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    return plan_run(resolve(load_recipe(recipe, overrides), root.parent), Workspace(root))


def step(found: RunPlan, name: str) -> PlannedStep:
    return next(step for step in found.steps if step.step == name)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunRecord]:
    """A root in which the recipe has run, and what that run recorded."""
    directory = tmp_path_factory.mktemp("plan")
    (directory / "wine.yaml").write_text(RECIPE, encoding="utf-8")
    command = [sys.executable, "-m", "windlass_cli", "run", "wine.yaml", "--root", "root", "--json"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    (record,) = list_runs(Workspace(directory / "root"))
    return directory / "root", record


def test_without_an_earlier_run_training_is_timed_and_grows_with_its_epochs(tmp_path: Path) -> None:
    short, long = plan(tmp_path / "root"), plan(tmp_path / "root", "train.epochs=30000")
    assert {each.step: each.basis for each in short.steps} == {
        "prepare": "done",
        "train": "timed",
        "compress": "assumed",
        "evaluate": "assumed",
        "select": "assumed",
        "register": "assumed",
    }
    assert short.num_parameters == 13 * 3 + 3
    assert "3 epochs, 12 steps of 32 examples" in step(short, "train").work
    assert step(long, "train").seconds > 3 * step(short, "train").seconds
    assert short.candidates == ("fp32", "int8")


def test_longer_measuring_and_more_candidates_take_longer(tmp_path: Path) -> None:
    quick = plan(tmp_path / "root")
    thorough = plan(tmp_path / "root", "evaluate.latency_seconds=3")
    single = plan(tmp_path / "root", "compress.candidates=[fp32]")
    assert step(thorough, "evaluate").seconds > step(quick, "evaluate").seconds + 2 * 2.9
    assert step(single, "evaluate").seconds == pytest.approx(step(quick, "evaluate").seconds / 2)
    assert single.disk_bytes < quick.disk_bytes


def test_what_a_run_took_is_what_the_same_work_is_foreseen_to_take(ran: tuple[Path, RunRecord]) -> None:
    root, record = ran
    again = plan(root, "train.seed=1")
    took = {result.step: result.seconds for result in record.steps}
    assert {each.basis for each in again.steps[1:3]} == {"earlier runs", "assumed"}
    assert step(again, "evaluate").seconds == pytest.approx(took["evaluate"])
    assert step(again, "register").seconds == pytest.approx(took["register"])
    assert step(again, "train").basis == "earlier runs"


def test_a_finished_training_takes_nothing(ran: tuple[Path, RunRecord]) -> None:
    assert step(plan(ran[0]), "train") == PlannedStep(
        step="train", work="3 epochs, 12 steps of 32 examples", seconds=0.0, basis="done"
    )


def test_the_command_prints_a_plan_and_leaves_the_prepared_data_to_the_run(tmp_path: Path) -> None:
    (tmp_path / "wine.yaml").write_text(RECIPE, encoding="utf-8")
    command = [sys.executable, "-m", "windlass_cli", "plan", "wine.yaml", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["seconds"] == pytest.approx(sum(each["seconds"] for each in document["steps"]))
    assert len(list((tmp_path / ".windlass" / "steps" / "prepare").iterdir())) == 1
    assert list_runs(Workspace(tmp_path / ".windlass")) == []
