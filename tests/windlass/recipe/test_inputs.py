"""A run reads its inputs where every process of it can: what is local is published, and means the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from windlass.recipe.inputs import publish_inputs
from windlass.recipe.load import check_recipe
from windlass.recipe.resolve import ResolvedRecipe, resolve
from windlass.storage import Workspace

NET = "from torch import nn\n\n\nclass Net(nn.Linear):\n    pass\n"


def resolved(directory: Path, **settings: Any) -> ResolvedRecipe:
    (directory / "a.csv").write_text("a,y\n" + "\n".join(f"{n},{n % 2}" for n in range(9)) + "\n")
    (directory / "net.py").write_text(NET)
    document = {"name": "r", "task": "tabular-classification", "data": {"source": "*.csv", "target": "y"}, **settings}
    return resolve(check_recipe(document, "recipe.yaml"), directory)


def test_a_users_module_is_published_so_that_an_edit_does_not_change_a_run(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "root")
    published = publish_inputs(resolved(tmp_path, model={"architecture": "net.py:Net"}), workspace)
    (tmp_path / "net.py").write_text("changed")
    assert published.module is not None
    assert published.module.reference is not None
    assert (workspace.fetch(published.module.reference) / "net.py").read_text() == NET


def test_a_local_root_reads_data_where_they_lie_and_the_recipe_means_the_same(tmp_path: Path) -> None:
    recipe = resolved(tmp_path)
    published = publish_inputs(recipe, Workspace(tmp_path / "root"))
    assert published.source == recipe.source
    assert published.digest == recipe.digest
    assert not (tmp_path / "root" / "inputs").exists()
