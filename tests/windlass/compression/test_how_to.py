"""The names, settings and commands of the how-to page are ones that a recipe takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from windlass.compression.ladder import LADDERS
from windlass.compression.methods import METHODS, parse_chain
from windlass.recipe.load import check_recipe, load_recipe
from windlass.variants.engines import Device

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "how-to" / "compression.md").read_text(encoding="utf-8")
NAMES = [name for row in re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE) for name in re.findall(r"`(.*?)`", row)]
COMMANDS = re.findall(r"^\$ windlass run digits\.yaml (.*)$", PAGE, re.MULTILINE)
SNIPPETS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("name", NAMES)
def test_each_name_of_the_table_is_a_candidate(name: str) -> None:
    assert parse_chain(f"{name}+int8" if name == "qat" else name)


@pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.form)
def test_each_method_is_in_the_table(kind: Any) -> None:
    prefix = kind.form.removesuffix("PERCENT")
    assert any(name == kind.form or (prefix != kind.form and name.startswith(prefix)) for name in NAMES)


@pytest.mark.parametrize("device", LADDERS)
def test_the_ladder_is_the_one_that_is_described(device: Device) -> None:
    strengths = [re.findall(r"-(\d+)", " ".join(kind)) for kind in LADDERS[device].kinds]
    assert strengths == [[], ["50", "65", "80"], ["50", "25"]]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_settings_that_a_recipe_takes(command: str) -> None:
    words = shlex.split(command)
    assert load_recipe(ROOT / "pipelines" / "recipes" / "digits.yaml", [w for w in words if w != "--set"])


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_each_snippet_is_part_of_a_recipe(snippet: str) -> None:
    base = {"name": "mine", "task": "tabular-classification", "data": {"source": "rows.csv", "target": "y"}}
    assert check_recipe({**base, **yaml.safe_load(snippet)}, "mine.yaml")
