"""The read side, on a real `mlflow server` and on SQLite."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from windlass.registry import (
    AliasNotFoundError,
    InvalidModelNameError,
    InvalidVersionError,
    ModelNotFoundError,
    Registry,
    RegistryUnreachableError,
    VersionNotFoundError,
)
from windlass.storage import Manifest, describe_directory

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture
def two_versions(sqlite: str, variant: Path, support: Any) -> Registry:
    support.register_variant(sqlite, variant)
    support.register_variant(sqlite, variant, run_key="b" * 64, gate_open=False)
    return Registry(sqlite)


def test_a_name_alone_means_the_champion(two_versions: Registry) -> None:
    assert two_versions.resolve("digits").version == 1


def test_a_name_alone_means_the_newest_version_where_there_is_no_champion(
    sqlite: str, variant: Path, support: Any
) -> None:
    support.register_variant(sqlite, variant, gate_open=False)
    support.register_variant(sqlite, variant, run_key="b" * 64, gate_open=False)
    assert Registry(sqlite).resolve("digits").version == 2


def test_a_number_and_an_alias_name_their_version(two_versions: Registry) -> None:
    assert two_versions.resolve("digits/2").version == 2
    assert two_versions.resolve("digits@champion").version == 1


def test_versions_are_listed_oldest_first_with_their_aliases(two_versions: Registry) -> None:
    assert [(info.version, info.aliases) for info in two_versions.versions("digits")] == [(1, ("champion",)), (2, ())]
    assert [(model.name, model.aliases) for model in two_versions.models()] == [("digits", {"champion": 1})]


def test_what_is_not_there_is_named_with_what_to_type(two_versions: Registry) -> None:
    with pytest.raises(VersionNotFoundError, match="no version 7; see `windlass models show digits`"):
        two_versions.resolve("digits/7")
    with pytest.raises(AliasNotFoundError, match="no alias 'best', it has champion"):
        two_versions.resolve("digits@best")
    with pytest.raises(ModelNotFoundError, match="no model 'letters'; `windlass models` lists"):
        two_versions.resolve("letters/1")


@pytest.mark.parametrize("spec", ["digits/0", "digits/x", "digits/1/2", "digits@", "digits@a b", "digits/-1"])
def test_a_version_that_cannot_be_one_is_refused_unasked(spec: str) -> None:
    with pytest.raises(InvalidVersionError, match="write digits, digits/2 or digits@champion"):
        Registry("http://127.0.0.1:9").resolve(spec)


@pytest.mark.parametrize("name", ["..%2f", "\\..\\", ";$(id)", "two\nlines", "x" * 300, "", "..", "a..b"])
def test_a_name_that_cannot_be_one_is_refused_unasked(name: str) -> None:
    with pytest.raises(InvalidModelNameError, match="is not a model name"):
        Registry("http://127.0.0.1:9").aliases(name)


def test_a_download_that_is_there_is_kept_and_a_damaged_one_replaced(two_versions: Registry, tmp_path: Path) -> None:
    copy = two_versions.download("digits", 1, tmp_path / "cache" / "1")
    before = (copy / "model.onnx").stat().st_ino
    two_versions.download("digits", 1, copy)
    assert (copy / "model.onnx").stat().st_ino == before
    (copy / "model.onnx").write_bytes(b"damaged")
    two_versions.download("digits", 1, copy)
    assert Manifest.read(copy / "manifest.json").digest == describe_directory(copy).digest
    assert [path.name for path in copy.parent.iterdir()] == ["1"]


def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    started_s = time.monotonic()
    with pytest.raises(RegistryUnreachableError) as caught:
        Registry("http://user:hunter22@127.0.0.1:9").models()
    assert time.monotonic() - started_s < 15
    assert "http://***@127.0.0.1:9 does not answer" in str(caught.value)
    assert "MLFLOW_TRACKING_URI" in str(caught.value)
    assert "hunter22" not in str(caught.value)


def test_a_folder_with_spaces_and_umlauts_is_no_obstacle(
    empty_database: Path, variant: Path, support: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "Müllers Daten #1"
    folder.mkdir()
    shutil.copyfile(empty_database, folder / "mlflow.db")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    support.register_variant(uri, variant)
    assert (Registry(uri).download("digits", 1, folder / "copy") / "model.onnx").is_file()


@pytest.mark.slow
def test_a_server_gives_the_same_files(server: Any, variant: Path, support: Any, tmp_path: Path) -> None:
    registration = support.register_variant(server.url, variant, recipe_name="served")
    copy = Registry(server.url).download("served", registration.version, tmp_path / "copy")
    assert (copy / "model.onnx").read_bytes() == (variant / "model.onnx").read_bytes()
    assert Registry(server.url).resolve("served").version == registration.version


@pytest.mark.slow
def test_the_read_side_runs_without_the_packages_of_training(
    server: Any, variant: Path, support: Any, tmp_path: Path
) -> None:
    registration = support.register_variant(server.url, variant, recipe_name="skinny")
    program = (
        "import sys\n"
        "for name in ('onnx', 'pandas', 'torch', 'sklearn', 'sqlalchemy', 'alembic', 'pyarrow', 'duckdb'):\n"
        "    sys.modules[name] = None\n"
        "from pathlib import Path\n"
        "from windlass.registry import Registry\n"
        "Registry(sys.argv[1]).download('skinny', int(sys.argv[2]), Path(sys.argv[3]))\n"
    )
    arguments = [server.url, str(registration.version), str(tmp_path / "copy")]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "copy" / "model.onnx").is_file()


def test_importing_the_registry_loads_neither_mlflow_nor_onnx() -> None:
    program = (
        "import sys, windlass.registry\n"
        "print([n for n in ('mlflow', 'onnx', 'pandas', 'torch', 'requests') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_artifacts_that_the_environment_allows_may_lie_elsewhere(
    sqlite: str, variant: Path, support: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    support.register_variant(sqlite, variant)
    moved = tmp_path / "moved"
    shutil.copytree(tmp_path / ".windlass", moved)
    uri = f"sqlite:///{moved / 'mlflow.db'}"
    monkeypatch.setenv("WINDLASS_ARTIFACT_ROOTS", (tmp_path / ".windlass" / "mlartifacts").as_uri())
    assert (Registry(uri).download("digits", 1, tmp_path / "copy") / "model.onnx").is_file()
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
