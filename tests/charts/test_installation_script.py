"""The script of `helm test`, as far as it needs no cluster: it calls the library, and the library moves on."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from windlass.registry.tracking import connect

SCRIPT = Path(__file__).parents[2] / "charts" / "windlass" / "files" / "installation_test.py"


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("installation_test", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # MLflow's own
def test_the_script_registers_a_version_and_leaves_nothing(script: ModuleType, sqlite: str) -> None:
    registration = script.register_version(sqlite, "a" * 32)
    client = connect(sqlite)
    assert client.get_model_version_by_alias(script.MODEL, script.ALIAS).version == registration.version
    script.clean_up(client, sqlite, registration)
    assert client.search_registered_models() == []
