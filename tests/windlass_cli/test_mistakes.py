"""What people mistype or forget: each message says what to do, and nothing is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from devices import without_cuda
from windlass_cli.commands.try_recipe import GatewayDidNotStartError, _gateway

TABLE = "a,b,y\n" + "".join(f"{n}.5,{'xyz'[n % 3]},{n % 2}\n" for n in range(40))


def refused(directory: Path, *arguments: str) -> str:
    """What is said on stderr by a command that ends with 2, without a traceback."""
    reply = subprocess.run(
        [sys.executable, "-m", "windlass_cli", *arguments],
        cwd=directory,
        env={**os.environ, "MLFLOW_TRACKING_URI": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert reply.returncode == 2, reply.stderr
    assert "Traceback" not in reply.stderr
    assert reply.stderr.startswith("error: ")
    return reply.stderr


def test_init_tells_of_ragged_lines_before_it_writes_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(TABLE + "1.5,x\n2.5,y,0,9\n")
    reply = subprocess.run(
        [sys.executable, "-m", "windlass_cli", "init", "mine.csv", "--target", "y"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    warning, _, rest = reply.stderr.partition("written to mine.yaml")
    assert (
        "warning: mine.csv, row 42, column 'b': too few values (3 are expected): '1.5,x' (2 such rows in all)"
        in warning
    )
    assert "correct the file, or set data.bad_rows: drop, as the recipe now does" in warning
    assert "windlass run mine.yaml" in rest
    assert "bad_rows: drop" in (tmp_path / "mine.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("init", "mine.csv", "--target", "Y"),
            "--target: mine.csv has no column 'Y'; did you mean 'y'? its columns",
        ),
        (("init", "absent.csv", "--target", "y"), "nothing found at "),
        (
            ("init", "mine.csv", "--target", "y", "-o", "no/r.yaml"),
            "-o no/r.yaml: there is no folder no; make it first",
        ),
        (
            ("init", "mine.csv", "--target", "y", "-o", "r.yaml"),
            "r.yaml exists already; choose another with -o, or add",
        ),
        (("init", "notes.txt", "--target", "y"), "a source is CSV (.csv), Parquet (.parquet), JSON Lines (.jsonl)"),
        (("run", "absent.yaml"), "no such file; write one with `windlass init FILE --target COLUMN`"),
        (("run", "r.yaml", "--root", "ftp://x"), "'ftp://x' is no place for results; give a local directory"),
        (("predict", "wine", "mine.csv", "-o", "scores.csv"), "nothing is registered in .windlass yet; start with"),
        (("predict", "wine", "mine.csv", "-o", "scores"), "the suffix says the format; use one of"),
    ],
)
def test_a_mistake_is_refused_with_what_to_do(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    (tmp_path / "mine.csv").write_text(TABLE)
    (tmp_path / "notes.txt").write_text("a note")
    (tmp_path / "r.yaml").write_text('name: wine\ntask: tabular-classification\ndata: {source: "sklearn:wine"}\n')
    before = sorted(path.name for path in tmp_path.iterdir())
    assert says in refused(tmp_path, *arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_gateway_of_try_that_ends_at_once_names_its_log_and_the_doctor(tmp_path: Path) -> None:
    log = tmp_path / "gateway.log"
    with pytest.raises(GatewayDidNotStartError) as failed, _gateway("wine", ["--root", str(tmp_path / "r")], log):
        pass
    assert f"the gateway did not become ready; {log} says why, and `windlass doctor`" in str(failed.value)
    assert "nothing is registered in" in log.read_text()


@without_cuda
@pytest.mark.parametrize(
    "arguments",
    [
        ("serve", "wine"),
        ("predict", "wine", "rows.csv", "-o", "scores.csv"),
        ("evaluate", "wine", "--data", "sklearn:wine"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_device_that_is_not_here_is_refused_before_anything_else(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    said = refused(tmp_path, *arguments, "--device", "cuda")
    assert "cuda cannot be used here: onnxruntime " in said
    assert "pip install 'onnxruntime-gpu[cuda,cudnn]'" in said
    assert not list(tmp_path.glob("*"))
