"""A plugin of pytest: stores that are real, a SQLite file and an `mlflow server`, and a version to register there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import registry_support
from windlass.registry.tracking import connect


@pytest.fixture(scope="session")
def support() -> ModuleType:
    return registry_support


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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[registry_support.MlflowServer]:
    server = registry_support.MlflowServer(tmp_path_factory.mktemp("server"))
    server.run()
    yield server
    server.kill()


@pytest.fixture
def variant(tmp_path: Path) -> Path:
    return registry_support.make_variant(tmp_path / "variant")
