"""A run whose data Spark prepares in pods: the bundle is DuckDB's, whatever dies on the way."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cluster_installation import Installation
from cluster_runs import Typist, losses, published, without_storage
from hard_tables import same
from spark_runs import (
    DRIVERS,
    EXECUTORS,
    MALFORMED_ROW,
    ON_DUCKDB,
    ROWS_ARE_READ,
    assert_nothing_is_left,
    pods,
    write_hard_csv,
    write_hard_json_lines,
    write_hard_parquet,
    write_large_table,
)
from windlass.data.bundle import Bundle
from windlass.errors import EXIT_BAD_INPUT, EXIT_FAILURE
from windlass.storage import Workspace

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

OUTAGE_S = 30
WHOLE_WAY = ["prepare", "train", "compress", "evaluate", "select", "register"]
ASK_THE_SERVER = """
import json, ssl, sys, urllib.error, urllib.request
from pathlib import Path

answers = {}
for kind in ("pods", "secrets", "configmaps"):
    place = "/api/v1/namespaces/%s/%s" % (sys.argv[1], kind)
    try:
        untrusted = ssl._create_unverified_context()
        answers[kind] = urllib.request.urlopen("https://kubernetes.default.svc" + place, context=untrusted).status
    except urllib.error.HTTPError as error:
        answers[kind] = error.code
print(json.dumps({"token": Path("/var/run/secrets/kubernetes.io").exists(), "answers": answers}))
"""
"""Without a token, which an executor does not have."""


def kill(installation: Installation, pod: str) -> None:
    """The kubelet sends SIGKILL at once, and the API forgets the pod."""
    installation.kubectl("delete", "pod", pod, "--grace-period=0", "--force")


def assert_same_data(typist: Typist, here: dict[str, Any], there: dict[str, Any]) -> None:
    """Of a run on this machine and one on the cluster."""
    laptop = Workspace(typist.directory / ".windlass")
    made = (here, laptop), (there, typist.workspace)
    same(*(Bundle.open(published(result, workspace, "prepare")) for result, workspace in made))


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = process.communicate(timeout=280)
    return process.returncode, out + err


@pytest.mark.timeout(600)
def test_a_run_on_spark_ends_with_a_version_and_has_the_data_and_the_losses_of_duckdb(typist: Typist) -> None:
    write_hard_csv(typist.directory)
    here = typist.run("run", "recipe.yaml", "--step", "train", *ON_DUCKDB)
    there = typist.on_cluster("recipe.yaml")
    assert_same_data(typist, here, there)
    laptop = Workspace(typist.directory / ".windlass")
    assert losses(published(there, typist.workspace, "train")) == losses(published(here, laptop, "train"))
    assert [step["step"] for step in there["run"]["steps"]] == WHOLE_WAY
    assert there["registration"]["version"] == 1
    assert_nothing_is_left(typist.installation)


@pytest.mark.parametrize("write_table", [write_hard_parquet, write_hard_json_lines])
def test_typed_and_nested_values_and_other_splits_are_prepared_as_on_duckdb(
    typist: Typist, write_table: Callable[[Path], None]
) -> None:
    write_table(typist.directory)
    here = typist.run("run", "recipe.yaml", "--step", "prepare", *ON_DUCKDB)
    there = typist.on_cluster("recipe.yaml", "--step", "prepare")
    assert_same_data(typist, here, there)


def test_a_killed_executor_is_replaced_and_the_data_are_the_same(typist: Typist) -> None:
    write_large_table(typist.directory)
    here = typist.run("run", "recipe.yaml", "--step", "prepare", *ON_DUCKDB)
    process, _ = typist.start_and_wait_for("recipe.yaml", ROWS_ARE_READ, "--step", "prepare")
    first, *_ = pods(typist.installation, EXECUTORS)
    kill(typist.installation, first)
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err[-4000:]
    assert_same_data(typist, here, json.loads(out))


def test_a_killed_driver_fails_the_step_and_the_same_command_starts_clean(typist: Typist) -> None:
    write_large_table(typist.directory)
    process, _ = typist.start_and_wait_for("recipe.yaml", ROWS_ARE_READ)
    (driver,) = pods(typist.installation, DRIVERS)
    kill(typist.installation, driver)
    code, said = end(process)
    assert code == EXIT_FAILURE, said
    assert "step prepare: job windlass-prepare-" in said
    assert_nothing_is_left(typist.installation)
    assert not [name for name in typist.workspace.list_documents("work/") if "prepare" in name]
    again = typist.on_cluster("recipe.yaml", "--step", "prepare")
    assert [(step["step"], step["cached"]) for step in again["run"]["steps"]] == [("prepare", False)]


def test_an_executor_may_ask_nothing_of_the_cluster_and_a_cancelled_run_leaves_no_pod(typist: Typist) -> None:
    write_large_table(typist.directory)
    process, run_id = typist.start_and_wait_for("recipe.yaml", ROWS_ARE_READ)
    executor, *_ = pods(typist.installation, EXECUTORS)
    command = ("python", "-c", ASK_THE_SERVER, typist.installation.namespace)
    asked = json.loads(typist.installation.kubectl("exec", executor, "--", *command).stdout)
    assert end(typist.start("runs", "cancel", run_id, *typist.place))[0] == 0
    _, said = end(process)
    assert "was deleted while it ran" in said
    assert_nothing_is_left(typist.installation)
    assert asked["token"] is False
    assert set(asked["answers"].values()) <= {401, 403}, asked["answers"]


@pytest.mark.timeout(600)
@pytest.mark.cluster_node
@pytest.mark.fault
def test_data_are_the_same_after_the_object_store_was_away_for_half_a_minute(typist: Typist) -> None:
    write_large_table(typist.directory)
    here = typist.run("run", "recipe.yaml", "--step", "prepare", *ON_DUCKDB)
    process, _ = typist.start_and_wait_for("recipe.yaml", ROWS_ARE_READ, "--step", "prepare")
    without_storage(OUTAGE_S)
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err[-4000:]
    assert_same_data(typist, here, json.loads(out))
    assert_nothing_is_left(typist.installation)
    assert typist.workspace.list_documents("work/") == []


def test_a_malformed_line_is_told_as_duckdb_tells_it(typist: Typist) -> None:
    write_large_table(typist.directory, malformed=MALFORMED_ROW)
    told = []
    for words in (ON_DUCKDB, ("--on", "cluster", *typist.place)):
        process = typist.start("run", "recipe.yaml", "--step", "prepare", *words)
        code, said = end(process)
        assert code == EXIT_BAD_INPUT, said
        told.append(next(line for line in said.splitlines() if f"row {MALFORMED_ROW}" in line))
    assert told[0].split("large.csv")[-1] == told[1].split("large.csv")[-1]


@contextmanager
def quota(installation: Installation, memory: str) -> Iterator[None]:
    metadata = {"name": "small", "namespace": installation.namespace}
    document = {
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": {"limits.memory": memory}}
    }  # fmt: skip
    installation.kubectl("apply", "-f", "-", text=json.dumps(document))
    try:
        yield
    finally:
        installation.kubectl("delete", "resourcequota", "small")


def test_a_quota_that_lets_no_executor_in_is_told_with_what_is_short(typist: Typist) -> None:
    write_hard_csv(typist.directory)
    with quota(typist.installation, "40Gi"):
        words = ("--set", "data.executor_memory=64GB", "--step", "prepare")
        process = typist.start("run", "recipe.yaml", "--on", "cluster", *typist.place, *words)
        code, said = end(process)
    assert code == EXIT_BAD_INPUT, said
    assert "none of 2 Spark executors of 64.0 GB" in said
    assert "exceeded quota: small" in said
    assert_nothing_is_left(typist.installation)
