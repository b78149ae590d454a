"""A run whose data Spark prepares in pods: the bundle is DuckDB's, whatever dies on the way."""

# ruff: noqa: S311 - random tables, no secrets

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster_installation import Installation
from cluster_runs import Typist, losses, published
from hard_tables import csv_text, nasty_rows, same
from windlass.data.bundle import Bundle
from windlass.errors import EXIT_BAD_INPUT, EXIT_FAILURE
from windlass.storage import Workspace

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

RECIPE = """\
name: hard
task: tabular-classification
data:
  source: table
  target: y
  columns: {mixed: number, code: category}
  engine: spark
  executors: 2
  executor_memory: 1.5GB
model: {architecture: linear}
train: {epochs: 2, global_batch_size: 128, num_workers: 2}
resources: {cluster: {worker: {cpu: 0.1, memory: 1GB}, step: {cpu: 0.1, memory: 2.6GB}}}
"""
ON_DUCKDB = ("--set", "data.engine=duckdb")
A_STAGE_RUNS = '"name": "prepare: reading rows", "done"'
"""In the events, from the moment at which executors work."""
LARGE_ROWS = 300_000
GONE_WITHIN_S = 60
PODS = "windlass.io/part=executor"
DRIVERS = "windlass.io/step=prepare,batch.kubernetes.io/job-name"


def write_hard_table(directory: Path) -> None:
    """Four files of quotes, line breaks, unicode, leading zeros and numbers in mixed forms."""
    table = directory / "table"
    table.mkdir()
    for number in range(4):
        rows = nasty_rows(random.Random(number), 750)
        (table / f"{number}.csv").write_text(csv_text(rows), encoding="utf-8")
    (directory / "recipe.yaml").write_text(RECIPE)


def write_large_table(directory: Path, *, malformed: int | None = None) -> None:
    """One file of several parts; the line `malformed`, counted from 1, has a value too many."""
    draw = random.Random(11)
    names = [f"k{number}" for number in range(20)]
    with (directory / "large.csv").open("w") as file:
        file.write(",".join(["n", *names, "y"]) + "\n")
        for number in range(LARGE_ROWS):
            more = "one,too,many," if number + 2 == malformed else ""
            letters = ",".join(draw.choices("abcdefgh", k=20))
            file.write(f"{number * 7919 % 1000003},{letters},{more}{'no' if number % 3 else 'yes'}\n")
    recipe = RECIPE.replace("source: table", "source: large.csv")
    (directory / "recipe.yaml").write_text(recipe.replace("  columns: {mixed: number, code: category}\n", ""))


def pods(installation: Installation, label: str) -> list[str]:
    found = installation.kubectl("get", "pods", "-l", label, "-o", "name").stdout.split()
    return [name.removeprefix("pod/") for name in found]


def assert_nothing_is_left(installation: Installation) -> None:
    deadline_s = time.monotonic() + GONE_WITHIN_S
    while left := [*pods(installation, PODS), *pods(installation, DRIVERS)]:
        assert time.monotonic() < deadline_s, f"still there: {left}"
        time.sleep(1)


def kill(installation: Installation, pod: str) -> None:
    """The kubelet sends SIGKILL at once, and the API forgets the pod."""
    installation.kubectl("delete", "pod", pod, "--grace-period=0", "--force")


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = process.communicate(timeout=280)
    return process.returncode, out + err


def test_a_table_is_prepared_as_on_duckdb_and_a_model_trains_to_the_same_losses(typist: Typist) -> None:
    write_hard_table(typist.directory)
    here = typist.run("run", "recipe.yaml", "--step", "train", *ON_DUCKDB)
    there = typist.on_cluster("recipe.yaml", "--step", "train")
    laptop, cluster = Workspace(typist.directory / ".windlass"), typist.workspace
    same(Bundle.open(published(here, laptop, "prepare")), Bundle.open(published(there, cluster, "prepare")))
    assert losses(published(there, cluster, "train")) == losses(published(here, laptop, "train"))
    assert_nothing_is_left(typist.installation)


def test_a_killed_executor_is_replaced_and_the_data_are_the_same(typist: Typist) -> None:
    write_large_table(typist.directory)
    here = typist.run("run", "recipe.yaml", "--step", "prepare", *ON_DUCKDB)
    process, _ = typist.start_and_wait_for("recipe.yaml", A_STAGE_RUNS, "--step", "prepare")
    first, *_ = pods(typist.installation, PODS)
    kill(typist.installation, first)
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err[-4000:]
    laptop = Workspace(typist.directory / ".windlass")
    same(*(Bundle.open(published(*made, "prepare")) for made in ((here, laptop), (json.loads(out), typist.workspace))))


def test_a_killed_driver_fails_the_step_and_the_same_command_starts_clean(typist: Typist) -> None:
    write_large_table(typist.directory)
    process, _ = typist.start_and_wait_for("recipe.yaml", A_STAGE_RUNS)
    (driver,) = pods(typist.installation, DRIVERS)
    kill(typist.installation, driver)
    code, said = end(process)
    assert code == EXIT_FAILURE, said
    assert "step prepare: job windlass-prepare-" in said
    assert_nothing_is_left(typist.installation)
    assert not [name for name in typist.workspace.list_documents("work/") if "prepare" in name]
    again = typist.on_cluster("recipe.yaml", "--step", "prepare")
    assert [(step["step"], step["cached"]) for step in again["run"]["steps"]] == [("prepare", False)]


def test_a_cancelled_run_leaves_no_driver_and_no_executor(typist: Typist) -> None:
    write_large_table(typist.directory)
    process, run_id = typist.start_and_wait_for("recipe.yaml", A_STAGE_RUNS)
    assert end(typist.start("runs", "cancel", run_id, *typist.place))[0] == 0
    _, said = end(process)
    assert "was deleted while it ran" in said
    assert_nothing_is_left(typist.installation)


def test_a_malformed_line_is_told_as_duckdb_tells_it(typist: Typist) -> None:
    write_large_table(typist.directory, malformed=LARGE_ROWS // 2)
    told = []
    for words in (ON_DUCKDB, ("--on", "cluster", *typist.place)):
        process = typist.start("run", "recipe.yaml", "--step", "prepare", *words)
        code, said = end(process)
        assert code == EXIT_BAD_INPUT, said
        told.append(next(line for line in said.splitlines() if f"row {LARGE_ROWS // 2}" in line))
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
    write_hard_table(typist.directory)
    with quota(typist.installation, "40Gi"):
        words = ("--set", "data.executor_memory=64GB", "--step", "prepare")
        process = typist.start("run", "recipe.yaml", "--on", "cluster", *typist.place, *words)
        code, said = end(process)
    assert code == EXIT_BAD_INPUT, said
    assert "none of 2 Spark executors of 64.0 GB" in said
    assert "exceeded quota: small" in said
    assert_nothing_is_left(typist.installation)
