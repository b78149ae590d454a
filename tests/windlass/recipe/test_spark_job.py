"""A prepare step on Spark as a Job: what is asked of the cluster, and what comes back of its errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from installations import SPARK, installation_settings
from windlass.cluster.errors import OutOfMemoryError, PodFailedError, PodFailure
from windlass.cluster.settings import SETTINGS_VARIABLE
from windlass.errors import InterruptedRunError, InvalidInputError, WindlassError
from windlass.recipe import spark_pod
from windlass.recipe.model import Recipe
from windlass.recipe.preparing import prepare_key
from windlass.recipe.resolve import ResolvedRecipe, resolve
from windlass.recipe.spark_job import (
    NoSparkError,
    PrepareMemoryError,
    check_spark,
    cluster_of,
    describe_job,
    explain,
    request_name,
    settings_for_job,
)
from windlass.storage import Workspace

SETTINGS = installation_settings(spark=SPARK)


def recipe(engine: str = "spark") -> Recipe:
    cluster = {"node_selector": {"disk": "fast"}, "step": {"cpu": 2, "memory": "3GB"}}
    return Recipe.model_validate(
        {
            "name": "wine",
            "task": "tabular-classification",
            "data": {"source": "sklearn:wine", "engine": engine, "executors": 3, "executor_memory": "8GB"},
            "resources": {"cluster": cluster},
        }
    )


@pytest.fixture
def resolved(tmp_path: Path) -> ResolvedRecipe:
    return resolve(recipe(), tmp_path)


def failure(message: str, exit_code: int = 1) -> PodFailedError:
    ended = PodFailure("windlass-prepare-x-y", 0, "Error", exit_code, message, log_tail="")
    return PodFailedError("windlass-prepare-x", ended, restarts=0)


def said(text: str, exit_code: int) -> str:
    return json.dumps({"type": "BadRowsError", "message": text, "exit_code": exit_code, "step": "prepare"})


def test_a_recipe_on_spark_is_refused_before_anything_runs_where_the_installation_has_none() -> None:
    without = SETTINGS.model_copy(update={"spark": None})
    with pytest.raises(NoSparkError, match=r"helm -n team upgrade windlass .* --set spark.enabled=true, or use duckdb"):
        check_spark(without, recipe())
    check_spark(without, recipe("duckdb"))
    check_spark(SETTINGS, recipe())


def test_the_job_is_one_pod_of_sparks_image_with_the_driver_account_and_its_token(resolved: ResolvedRecipe) -> None:
    job = describe_job(resolved, "s3://bucket/prefix", "key", SETTINGS, None)
    assert (job.image, job.service_account, job.api_access) == (SPARK.image, SPARK.driver_service_account, True)
    assert (job.workers, job.restarts) == (1, 0)
    assert (job.resources.cpu, job.resources.memory) == ("2", "3000000000")
    assert job.node_selector == {"disk": "fast"}


def test_two_runs_of_the_same_data_share_one_job(resolved: ResolvedRecipe) -> None:
    one, other, another = (describe_job(resolved, "s3://b/p", key, SETTINGS, None) for key in ("a", "a", "b"))
    assert (one.name, one.digest) == (other.name, other.digest)
    assert one.name != another.name


def test_the_recipe_says_how_many_executors_there_are_and_how_large(
    resolved: ResolvedRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SETTINGS_VARIABLE, SETTINGS.model_dump_json())
    cluster = cluster_of(resolved, scratch="s3://bucket/prefix/work")
    assert cluster is not None
    assert (cluster.pods.count, cluster.pods.memory_bytes, cluster.pods.cpu) == (3, 8 * 10**9, 2)


def test_on_a_laptop_there_is_neither_a_job_nor_a_cluster(
    resolved: ResolvedRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SETTINGS_VARIABLE, raising=False)
    assert settings_for_job(resolved) is None
    assert cluster_of(resolved, scratch="work") is None


def test_the_pod_ends_as_the_step_does_on_one_machine() -> None:
    wrong = explain(failure(said("line 7 of table.csv has 3 values instead of 4", 2), 2))
    assert type(wrong) is InvalidInputError
    assert str(wrong) == "line 7 of table.csv has 3 values instead of 4"
    assert type(explain(failure(said("the run was stopped", 75), 75))) is InterruptedRunError
    assert type(explain(failure(said("none of 2 Spark executors", 1)))) is WindlassError


def test_a_driver_without_a_last_word_is_told_as_the_cluster_tells_it() -> None:
    error = failure("", 137)
    assert explain(error) is error


def test_a_driver_over_its_memory_says_which_setting_to_raise() -> None:
    killed = PodFailure("windlass-prepare-x-y", 0, "OOMKilled", 137, "", log_tail="")
    error = explain(OutOfMemoryError("windlass-prepare-x", killed, 0, "3G"))
    assert type(error) is PrepareMemoryError
    assert "its limit is 3G; raise resources.cluster.step.memory" in str(error)


def run_pod(
    monkeypatch: pytest.MonkeyPatch, root: Path, termination: Path, key: str = "key"
) -> tuple[int, dict[str, Any] | None]:
    arguments = ["spark_pod", "--root", str(root), "--key", key, "--termination", str(termination)]
    monkeypatch.setattr("sys.argv", arguments)
    monkeypatch.setattr(spark_pod.signal, "signal", lambda *_: None)
    code = spark_pod.main()
    return code, json.loads(termination.read_text()) if termination.exists() else None


def test_the_pod_leaves_its_error_and_its_exit_code_to_whoever_started_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "table.csv"
    table.write_text("a,b\n1,x\n2,y,z\n")
    bad = Recipe.model_validate(
        {"name": "bad", "task": "tabular-classification", "data": {"source": str(table), "target": "b"}}
    )
    resolved = resolve(bad, tmp_path)
    key, workspace = prepare_key(resolved), Workspace(str(tmp_path / "root"))
    workspace.write_document(request_name(key), resolved.model_dump_json(by_alias=True).encode())
    code, message = run_pod(monkeypatch, tmp_path / "root", tmp_path / "termination", key)
    assert code == 2
    assert message is not None
    assert "table.csv" in message["message"]
    assert (message["exit_code"], message["step"]) == (2, "prepare")


def test_a_pod_of_other_sources_refuses_what_its_run_would_not_find(
    resolved: ResolvedRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Workspace(str(tmp_path / "root")).write_document(
        request_name("key"), resolved.model_dump_json(by_alias=True).encode()
    )
    code, message = run_pod(monkeypatch, tmp_path / "root", tmp_path / "termination")
    assert code == 2
    assert message is not None
    assert "are of different versions of Windlass" in message["message"]


def test_a_pod_without_a_request_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, message = run_pod(monkeypatch, tmp_path / "root", tmp_path / "termination")
    assert code == 2
    assert message is not None
    assert "there is no jobs/prepare/key/request.json below" in message["message"]
