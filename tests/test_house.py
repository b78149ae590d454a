"""Rules of the repository itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from windlass.recipe.model import Recipe
from windlass.recipe.reference import render, section_of

ROOT = Path(__file__).parents[1]


def test_platform_holds_no_python_file_or_it_would_shadow_the_standard_library() -> None:
    assert [path.name for path in (ROOT / "platform").iterdir() if path.suffix == ".py"] == []


def test_no_test_folder_is_a_package_or_named_platform() -> None:
    folders = [path for path in (ROOT / "tests").rglob("*") if path.is_dir()]
    assert not list((ROOT / "tests").rglob("__init__.py"))
    assert "platform" not in {folder.name for folder in folders}


def test_the_standard_library_platform_is_the_one_that_is_imported_in_the_repository() -> None:
    code = "import platform; assert platform.python_version()"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


@pytest.mark.parametrize("heavy", ["torch", "mlflow", "kfp", "sklearn", "numpy", "duckdb", "pyarrow", "onnxruntime"])
def test_reading_a_recipe_imports_nothing_heavy(heavy: str) -> None:
    code = f"import windlass.recipe, windlass.recipe.steps, sys; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def _settings(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, str | None]]:
    for name, field in model.model_fields.items():
        here = f"{path}{field.alias or name}"
        section = section_of(field)
        yield from _settings(section, f"{here}.") if section else [(here, field.description)]


@pytest.mark.parametrize(("setting", "description"), sorted(_settings(Recipe)))
def test_each_setting_of_a_recipe_says_what_it_means(setting: str, description: str | None) -> None:
    assert description, f"{setting} has no description"


def test_the_reference_of_the_recipe_is_up_to_date() -> None:
    written = (ROOT / "docs" / "reference" / "recipe.md").read_text(encoding="utf-8")
    assert written == render(), "run `make generate`"


@pytest.mark.parametrize("adr", sorted((ROOT / "docs" / "adr").glob("*.md")), ids=lambda path: path.stem)
def test_each_decision_record_says_what_was_decided(adr: Path) -> None:
    assert "\n## Decision\n" in adr.read_text(encoding="utf-8")
