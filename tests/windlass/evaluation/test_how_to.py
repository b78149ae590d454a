"""The page about budgets says what is so: its recipes are recipes, its commands are commands, no key is missing."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from windlass.evaluation.config import BudgetConfig
from windlass.recipe.load import check_recipe, load_recipe
from windlass.recipe.resolve import resolve

PAGE = (Path(__file__).parents[3] / "docs" / "how-to" / "budgets.md").read_text(encoding="utf-8")
RECIPE = {"name": "wine", "task": "tabular-classification", "data": {"source": "sklearn:wine"}}
COMMANDS = re.findall(r"^\$ (windlass run .*)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
def test_each_budget_of_the_page_is_one(text: str) -> None:
    resolve(check_recipe(RECIPE | yaml.safe_load(text), "budgets.md"), Path())


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_of_the_page_changes_a_recipe(command: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    _, _, name, *options = shlex.split(command)
    assert set(options[::2]) == {"--set"}
    changed = load_recipe(tmp_path / name, options[1::2])
    assert changed != load_recipe(tmp_path / name)
    resolve(changed, tmp_path)


def test_the_page_names_every_key() -> None:
    missing = [key for key in BudgetConfig.model_fields if f"`{key}`" not in PAGE]
    assert missing == []
