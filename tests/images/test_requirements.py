"""The hashed requirements fit pyproject.toml and constraints.txt."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "hack" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


lock, check = script("lock_requirements"), script("check_site_packages")
ROLES = ["build", "gateway", "mlflow", "components", "torch-cpu", "spark"]


def pins(role: str) -> dict[str, str]:
    versions, problems = check.locked([ROOT / "requirements" / f"{role}.txt"])
    assert problems == []
    return dict(versions)


@pytest.mark.parametrize("role", ROLES)
def test_what_a_role_asks_for_is_pinned_with_a_hash_within_its_bounds(role: str) -> None:
    found = pins(role)
    for line in lock.wanted(role):
        need = Requirement(line)
        assert need.specifier.contains(found.get(check.normal(need.name), "0")), f"{line}: run `make requirements`"


@pytest.mark.parametrize("role", ROLES)
def test_the_versions_are_those_that_are_tested_together(role: str) -> None:
    lines = (ROOT / lock.CONSTRAINTS.get(role, "constraints.txt")).read_text(encoding="utf-8").splitlines()
    tested = {check.normal(line.partition("==")[0]): line.partition("==")[2] for line in lines if "==" in line}
    found = {name: version.partition("+")[0] for name, version in pins(role).items()}
    assert {name: version for name, version in found.items() if tested.get(name, version) != version} == {}


@pytest.mark.parametrize("role", ["gateway", "mlflow", "components", "spark"])
def test_torch_is_in_a_file_of_its_own(role: str) -> None:
    assert "torch" not in pins(role)
    assert "torch" in pins("torch-cpu")


def test_shared_packages_of_torch_and_the_components_have_one_version() -> None:
    torch, components = pins("torch-cpu"), pins("components")
    assert {name: torch[name] for name in torch.keys() & components.keys()} == {
        name: components[name] for name in torch.keys() & components.keys()
    }


@pytest.mark.parametrize("role", ROLES)
def test_a_requirement_file_names_no_host(role: str) -> None:
    assert not re.search(
        r"://|--(extra-)?index|--find-links", (ROOT / "requirements" / f"{role}.txt").read_text("utf-8")
    )
