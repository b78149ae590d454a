"""Fixtures of the registry's tests: the stores are real, a SQLite file and an `mlflow server`."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from windlass.registry.tracking import connect


def _load_support() -> Any:
    name = "registry_support"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("registry_support.py"))
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="session")
def support() -> Any:
    return _load_support()


@pytest.fixture(autouse=True)
def no_tracking_of_the_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "WINDLASS_ARTIFACT_ROOTS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with its tables and nothing in them; making one takes seconds."""
    database = tmp_path_factory.mktemp("empty") / "mlflow.db"
    connect(f"sqlite:///{database}")
    return database


@pytest.fixture
def sqlite(tmp_path: Path, empty_database: Path) -> str:
    database = tmp_path / ".windlass" / "mlflow.db"
    database.parent.mkdir()
    shutil.copyfile(empty_database, database)
    return f"sqlite:///{database}"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, support: Any) -> Iterator[Any]:
    server = support.MlflowServer(tmp_path_factory.mktemp("server"))
    server.run()
    yield server
    server.kill()


@pytest.fixture
def variant(tmp_path: Path, support: Any) -> Path:
    made: Path = support.make_variant(tmp_path / "variant")
    return made
