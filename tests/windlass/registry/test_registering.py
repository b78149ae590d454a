"""Registration on the default SQLite store."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from windlass.registry import InvalidModelNameError, Registry, RegistryUnreachableError
from windlass.registry.config import RegisterConfig
from windlass.registry.tracking import connect, default_tracking_uri
from windlass.variants import Variant, open_variant

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def test_registering_twice_makes_one_version(sqlite: str, variant: Path, support: Any) -> None:
    first = support.register_variant(sqlite, variant)
    again = support.register_variant(sqlite, variant)
    assert (first.version, again.version) == (1, 1)
    assert len(Registry(sqlite).versions("digits")) == 1


def test_another_run_key_makes_another_version_and_moves_the_alias(sqlite: str, variant: Path, support: Any) -> None:
    support.register_variant(sqlite, variant)
    support.register_variant(sqlite, variant, run_key="b" * 64, run_id_tag="digits-2")
    assert Registry(sqlite).aliases("digits") == {"champion": 2}


def test_a_closed_gate_registers_without_alias(sqlite: str, variant: Path, support: Any) -> None:
    support.register_variant(sqlite, variant)
    held_back = support.register_variant(sqlite, variant, run_key="b" * 64, gate_open=False)
    assert (held_back.version, held_back.alias) == (2, None)
    assert Registry(sqlite).aliases("digits") == {"champion": 1}


def test_the_version_carries_its_lineage(sqlite: str, variant: Path, support: Any) -> None:
    support.register_variant(sqlite, variant)
    (version,) = Registry(sqlite).versions("digits")
    assert version.tags["windlass.recipe"] == "digits"
    assert version.tags["windlass.dataset"] == "f" * 64
    assert version.tags["windlass.parent"] == "5" * 64
    assert version.tags["windlass.run_key"] == "a" * 64
    assert version.ours


def test_the_whole_family_is_in_one_finished_run(sqlite: str, variant: Path, support: Any, tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    lines = [
        {"epoch": epoch, "step": 9 * epoch, "train_loss": 1 / (1 + epoch), "quality": {"f1": 0.5}} for epoch in (0, 1)
    ]
    history.write_text("".join(json.dumps(line) + "\n" for line in lines))
    registration = support.register_variant(sqlite, variant, history=history, parameters={"train.epochs": 8})
    client = connect(sqlite)
    run = client.get_run(registration.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["fp32/size_bytes"] == 400.0
    assert run.data.metrics["int8/accuracy"] == 0.98
    assert run.data.metrics["quality/f1"] == 0.5
    assert [point.value for point in client.get_metric_history(registration.run_id, "train_loss")] == [1.0, 0.5]
    assert run.data.params == {"train.epochs": "8", "winner": "int8"}
    assert {file.path for file in client.list_artifacts(registration.run_id, "report")} == {
        "report/report.html",
        "report/report.json",
        "report/verdict.json",
    }


def test_figures_and_tables_of_the_report_are_there_for_mlflows_own_pages(
    sqlite: str, variant: Path, support: Any
) -> None:
    import mlflow

    report = variant.parent / "report"
    (report / "figures").mkdir(parents=True)
    (report / "figures" / "loss.svg").write_text("<svg/>")
    (report / "tables").mkdir()
    table = {"columns": ["candidate", "size_bytes"], "data": [["fp32", 400], ["int8", 100]]}
    (report / "tables" / "candidates.json").write_text(json.dumps(table))
    registration = support.register_variant(sqlite, variant)
    client = connect(sqlite)
    assert [file.path for file in client.list_artifacts(registration.run_id, "figures")] == ["figures/loss.svg"]
    mlflow.set_tracking_uri(sqlite)
    found = client.load_table(client.get_run(registration.run_id).info.experiment_id, "tables/candidates.json")
    assert found.to_dict("list") == {"candidate": ["fp32", "int8"], "size_bytes": [400, 100]}
    client.delete_model_version("digits", "1")
    support.register_variant(sqlite, variant)
    tags = client.get_run(registration.run_id).data.tags
    assert json.loads(tags["mlflow.loggedArtifacts"]) == [{"path": "tables/candidates.json", "type": "table"}]


def test_artifacts_of_the_default_store_lie_beside_its_file(sqlite: str, variant: Path, support: Any) -> None:
    support.register_variant(sqlite, variant)
    found = (variant.parent / ".windlass" / "mlartifacts").rglob("MLmodel")
    assert [file.parent.name for file in sorted(found)] == ["1-fp32", "2-int8"]


def test_the_registered_variant_knows_its_batch_invariance(
    sqlite: str, variant: Path, support: Any, tmp_path: Path
) -> None:
    assert Variant.read(variant / "variant.json").batch_invariant is None
    support.register_variant(sqlite, variant)
    assert open_variant(Registry(sqlite).download("digits", 1, tmp_path / "copy")).batch_invariant is True


def test_mlflow_loads_the_version_and_it_is_the_measured_file(sqlite: str, variant: Path, support: Any) -> None:
    import mlflow

    support.register_variant(sqlite, variant)
    mlflow.set_tracking_uri(sqlite)
    model = mlflow.onnx.load_model("models:/digits@champion")
    assert model.graph.name == "linear"
    (file,) = (variant.parent / ".windlass" / "mlartifacts").rglob("2-int8/model.onnx")
    assert file.read_bytes() == (variant / "model.onnx").read_bytes()


def test_a_version_that_was_removed_is_registered_again(sqlite: str, variant: Path, support: Any) -> None:
    support.register_variant(sqlite, variant)
    connect(sqlite).delete_model_version("digits", "1")
    assert support.register_variant(sqlite, variant).version == 2


def test_a_rerun_whose_mlflow_run_was_removed_still_finds_its_version(sqlite: str, variant: Path, support: Any) -> None:
    first = support.register_variant(sqlite, variant)
    connect(sqlite).delete_run(first.run_id)
    assert support.register_variant(sqlite, variant).version == 1


def test_a_given_mlflow_run_is_adopted_and_left_to_its_owner(
    sqlite: str, variant: Path, support: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(sqlite)
    given = client.create_run(
        client.create_experiment("pipeline", artifact_location=str(variant.parent / ".windlass/mlartifacts"))
    )
    monkeypatch.setenv("MLFLOW_RUN_ID", given.info.run_id)
    registration = support.register_variant(sqlite, variant)
    assert registration.run_id == given.info.run_id
    assert client.get_run(given.info.run_id).info.status == "RUNNING"


@pytest.mark.slow
def test_two_runs_that_register_at_once_in_a_new_store_get_two_versions(
    tmp_path: Path, variant: Path, support: Any
) -> None:
    sqlite = f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}"
    program = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import registry_support as support\n"
        "support.register_variant(sys.argv[2], Path(sys.argv[3]), run_key=sys.argv[4] * 64, run_id_tag=sys.argv[4])\n"
    )
    directory = str(Path(support.__file__).parent)
    runs = [
        subprocess.Popen([sys.executable, "-c", program, directory, sqlite, str(variant), key], stderr=subprocess.PIPE)
        for key in ("a", "b")
    ]
    for run in runs:
        _, errors = run.communicate(timeout=120)
        assert run.returncode == 0, errors.decode()
    registry = Registry(sqlite)
    assert [version.tags["windlass.run_key"][0] for version in registry.versions("digits")] in (["a", "b"], ["b", "a"])
    assert registry.aliases("digits")["champion"] in (1, 2)


@pytest.mark.parametrize("name", [";$(id)", "two\nlines", "x" * 300, "../up", "a/b", ""])
def test_a_bad_model_name_is_refused_before_anything_is_written(
    tmp_path: Path, variant: Path, support: Any, name: str
) -> None:
    with pytest.raises(InvalidModelNameError, match="is not a model name; use letters"):
        support.register_variant(f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}", variant, recipe_name=name)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("alias", ["latest", "v3", "a b", "@x"])
def test_an_alias_that_mlflow_keeps_for_itself_is_refused_in_the_recipe(alias: str) -> None:
    with pytest.raises(ValueError, match="not an alias"):
        RegisterConfig(alias=alias)


def test_a_store_that_cannot_be_opened_says_where_and_what_to_do(tmp_path: Path, variant: Path, support: Any) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database" * 1000)
    with pytest.raises(RegistryUnreachableError, match=r"mlflow\.db does not answer.*run the same command again"):
        support.register_variant(f"sqlite:///{tmp_path / 'mlflow.db'}", variant)


def test_the_environment_names_the_default_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_tracking_uri(tmp_path) == f"sqlite:///{tmp_path.resolve() / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert default_tracking_uri(tmp_path) == "http://tracking:5000"
