"""The page on families: its recipe and its commands, typed one after the other."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from windlass.recipe.runs import list_runs
from windlass.registry import Registry
from windlass.storage import Workspace
from windlass_cli.main import app

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "family.md").read_text(encoding="utf-8")
_EXACT = ("wine@", "fp32 of the family", "fp32 is ", "to go back:", "the same command")
"""Beginnings of lines whose text does not depend on what was measured."""


def examples() -> list[tuple[str, list[str]]]:
    """Each command of the page with the lines that it is said to print."""
    lines = "\n".join(re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)).splitlines()
    starts = [index for index, line in enumerate(lines) if line.startswith("$ ")]
    ends = [*starts[1:], len(lines)]
    return [(lines[start][2:], lines[start + 1 : end]) for start, end in zip(starts, ends, strict=True)]


def test_the_commands_of_the_page_do_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WINDLASS_ROOT", ".windlass")
    recipe = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert recipe
    (tmp_path / "wine.yaml").write_text(recipe[1])
    for command, said in examples():
        reply = CliRunner().invoke(app, shlex.split(command)[1:], catch_exceptions=False)
        assert reply.exit_code == 0, reply.output
        for line in (line for line in said if line.startswith(_EXACT)):
            assert line in reply.stdout.splitlines(), command
    (run,) = list_runs(Workspace(".windlass"))
    assert run.status == "succeeded"
    assert Registry(f"sqlite:///{tmp_path / '.windlass' / 'mlflow.db'}").aliases("wine") == {"champion": 1}
