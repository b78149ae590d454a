"""The recipe that the documentation shows is one that resolves."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from windlass.recipe.load import check_recipe
from windlass.recipe.resolve import resolve

PAGE = Path(__file__).parents[4] / "docs" / "how-to" / "evaluation.md"


def test_the_recipe_of_the_how_to_resolves(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert found
    (tmp_path / "loans.csv").write_text("income,age,sex,repaid\n1.5,30,f,1\n")
    recipe = resolve(check_recipe(yaml.safe_load(found[1]), PAGE.name), tmp_path).recipe
    assert recipe.evaluate.sensitive == ("sex", "age")
    assert f"`evaluate.analysis.rows` ({recipe.evaluate.analysis.rows:,})" in text
    assert f"`evaluate.analysis.max_time` ({recipe.evaluate.analysis.max_time / 60:g} minutes)" in text
    assert f"`evaluate.analysis.attack_rows` ({recipe.evaluate.analysis.attack_rows})" in text
