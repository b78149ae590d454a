"""What can be typed, how fast help comes, and what the process ends with."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from windlass_cli.main import app

RECIPE = 'name: wine\ntask: tabular-classification\ndata: {source: "sklearn:wine"}\n'
HEAVY = {
    "torch",
    "mlflow",
    "kfp",
    "onnx",
    "onnxruntime",
    "sklearn",
    "duckdb",
    "pyarrow",
    "numpy",
    "pydantic",
    "fastapi",
}
COMMANDS = [
    ["init"], ["run"], ["try"], ["runs"], ["runs", "show"], ["models"], ["models", "show"], ["serve"], ["predict"],
    ["models", "family"], ["models", "diff"], ["promote"], ["rollback"], ["prune"],
    ["recipe", "show"], ["recipe", "schema"], ["doctor"],
]  # fmt: skip


def windlass(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "windlass_cli", *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_help_of_every_command_has_examples_that_name_it(command: list[str]) -> None:
    reply = CliRunner().invoke(app, [*command, "--help"])
    assert reply.exit_code == 0
    assert f"windlass {' '.join(command)}" in reply.stdout.partition("Examples")[2]


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    code = f"""
import sys
from typer.testing import CliRunner
from windlass_cli.main import app
assert CliRunner().invoke(app, ["--help"]).exit_code == 0
print(sorted({HEAVY!r} & set(sys.modules)))
"""
    reply = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert reply.stdout.strip() == "[]"


def test_help_takes_less_than_half_a_second(tmp_path: Path) -> None:
    """Of processor time, which other work on the machine does not change."""
    took_s = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        windlass("--help", cwd=tmp_path)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took_s.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(took_s) < 0.5


def test_help_documents_the_exit_codes() -> None:
    shown = CliRunner().invoke(app, ["--help"]).stdout
    for code in ("0:", "1:", "2:", "3:", "4:", "75:", "130:"):
        assert code in shown


def test_a_wrong_recipe_ends_with_2_and_every_mistake_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE + "train: {epochs: -1, optimiser: sgd}\n")
    reply = windlass("run", "r.yaml", cwd=tmp_path)
    assert reply.returncode == 2
    assert "train.epochs: -1" in reply.stderr
    assert "did you mean optimizer" in reply.stderr
    assert "Traceback" not in reply.stderr
    assert not (tmp_path / ".windlass" / "runs").exists()


def test_a_traceback_is_shown_on_demand(tmp_path: Path) -> None:
    assert "Traceback" in windlass("run", "absent.yaml", cwd=tmp_path, WINDLASS_DEBUG="1").stderr


def test_an_unknown_step_is_refused_with_the_steps_there_are(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE)
    reply = windlass("run", "r.yaml", "--step", "deploy", cwd=tmp_path)
    assert reply.returncode == 2
    assert "one of prepare, train, compress, evaluate, select, register" in reply.stderr


def test_an_unknown_option_ends_with_2(tmp_path: Path) -> None:
    assert windlass("run", "r.yaml", "--frobnicate", cwd=tmp_path).returncode == 2


def test_models_of_an_empty_workspace_says_how_to_start_and_makes_nothing(tmp_path: Path) -> None:
    reply = windlass("models", cwd=tmp_path, MLFLOW_TRACKING_URI="")
    assert reply.returncode == 2
    assert "nothing is registered in .windlass yet; start with `windlass run RECIPE`" in reply.stderr
    assert not (tmp_path / ".windlass" / "mlflow.db").exists()


def test_runs_of_an_empty_workspace_says_how_to_start(tmp_path: Path) -> None:
    reply = windlass("runs", cwd=tmp_path)
    assert reply.returncode == 0
    assert "nothing was run in .windlass yet" in reply.stdout


def test_an_unknown_run_is_named(tmp_path: Path) -> None:
    reply = windlass("runs", "show", "wine-1", cwd=tmp_path)
    assert reply.returncode == 2
    assert "there is no run 'wine-1' here; `windlass runs` lists them" in reply.stderr


def test_recipe_show_fills_in_every_default_and_applies_overrides(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE)
    reply = windlass("recipe", "show", "r.yaml", "--set", "train.epochs=3", "--json", cwd=tmp_path)
    resolved = json.loads(reply.stdout)
    assert resolved["recipe"]["train"]["epochs"] == 3
    assert resolved["recipe"]["train"]["optimizer"] == "adamw"
    assert resolved["recipe"]["model"]["architecture"] == "mlp"


def test_recipe_schema_is_json_schema_that_names_the_keys(tmp_path: Path) -> None:
    schema = json.loads(windlass("recipe", "schema", cwd=tmp_path).stdout)
    assert {"name", "task", "data", "register"} <= set(schema["properties"])


def test_doctor_says_for_each_thing_what_it_found_and_for_each_problem_what_to_do(tmp_path: Path) -> None:
    reply = windlass("doctor", "--json", cwd=tmp_path, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    checks = {check["name"]: check for check in json.loads(reply.stdout)}
    assert {"versions", "packages: train", "memory", "disk", "port", "gpu", "serve.device", "mlflow"} <= set(checks)
    assert checks["mlflow"]["status"] == "problem"
    assert "start the server" in checks["mlflow"]["action"]
    assert all(check["action"] for check in checks.values() if check["status"] != "ok")
    assert reply.returncode == 1
