"""A run belongs to the cluster: it outlives who started it, is found again, is stopped, and says what went wrong."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from cluster_installation import Installation
from cluster_runs import WINE, Typist
from windlass.recipe.inputs import publish_inputs
from windlass.recipe.load import load_recipe
from windlass.recipe.resolve import resolve
from windlass.recipe.runs import new_run
from windlass.storage import Workspace
from windlass_pipelines.cluster import storage_from_outside

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

GONE_WITHIN_S = 60
LONG_WINE = WINE.replace("epochs: 3", "epochs: 4000")
NEEDS_A_TOKEN = """\
import os

from torch import nn


class Net(nn.Module):
    def __init__(self, input_shape, num_outputs):
        super().__init__()
        if "KUBERNETES_SERVICE_HOST" in os.environ and os.environ.get("TEAM_TOKEN") != "from a secret":
            raise RuntimeError("TEAM_TOKEN is not here")
        self.layer = nn.Linear(*input_shape, num_outputs)

    def forward(self, x):
        return self.layer(x)
"""


def pods_of_runs(installation: Installation) -> list[str]:
    pods = installation.get("pods", "-l", "app.kubernetes.io/managed-by=windlass")["items"]
    return [str(pod["metadata"]["name"]) for pod in pods]


def evict(installation: Installation, job: str) -> None:
    """As the drain of its node does."""
    pod = installation.get("pods", "-l", f"batch.kubernetes.io/job-name={job}")["items"][0]["metadata"]["name"]
    path = f"/api/v1/namespaces/{installation.namespace}/pods/{pod}/eviction"
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    installation.kubectl("create", "--raw", path, "-f", "-", text=json.dumps(eviction))


def wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + GONE_WITHIN_S
    while not holds():
        assert time.monotonic() < deadline_s, f"not after {GONE_WITHIN_S} s: {what}"
        time.sleep(0.5)


def test_a_run_outlives_the_command_that_started_it_and_can_be_attached(typist: Typist) -> None:
    (typist.directory / "wine.yaml").write_text(WINE)
    process, run_id = typist.start_and_wait_for("wine.yaml", '"step": "prepare", "status": "finished"')
    process.kill()
    process.communicate()
    result = typist.run("runs", "attach", run_id, *typist.place)
    assert result["run"]["status"] == "succeeded"
    assert result["registration"]["version"] == 1
    again = typist.run("runs", "attach", run_id, *typist.place)
    assert again["run"] == result["run"]


def test_a_run_whose_pod_is_evicted_goes_on_in_another(typist: Typist, installation: Installation) -> None:
    (typist.directory / "wine.yaml").write_text(WINE.replace("epochs: 3", "epochs: 20"))
    process, run_id = typist.start_and_wait_for("wine.yaml", "2 of 2 pods run")
    evict(installation, typist.job(run_id))
    _, err = process.communicate(timeout=280)
    assert process.returncode == 0, err[-4000:]
    result = typist.run("runs", "attach", run_id, *typist.place)
    assert result["run"]["status"] == "succeeded"
    steps = [step["step"] for step in result["run"]["steps"]]
    assert steps == ["prepare", "train", "compress", "evaluate", "select", "register"]
    assert result["problem"] is None, "the first pod's end is not the run's"


def test_a_cancelled_run_leaves_no_pod_and_goes_on_from_where_it_was(
    typist: Typist, installation: Installation, cached_steps: Callable[[dict[str, Any]], dict[str, bool]]
) -> None:
    (typist.directory / "wine.yaml").write_text(LONG_WINE)
    before = set(pods_of_runs(installation))
    process, run_id = typist.start_and_wait_for("wine.yaml", "2 of 2 pods run")
    said = typist.start("runs", "cancel", run_id, *typist.place).communicate(timeout=60)[0]
    assert "what is done is kept; to go on: windlass run wine.yaml --on cluster" in said
    process.communicate(timeout=120)
    assert process.returncode != 0
    wait_until(lambda: not set(pods_of_runs(installation)) - before, "the pods of the run are gone")
    shown = typist.run("runs", "attach", run_id, *typist.place, expect=75)
    assert shown["run"]["status"] == "interrupted"
    again = typist.on_cluster("wine.yaml", "--step", "prepare")
    assert cached_steps(again) == {"prepare": True}


def test_a_mistake_in_the_data_ends_the_run_with_its_message_and_code(typist: Typist) -> None:
    (typist.directory / "ill.csv").write_text("a,y\n" + "\n".join(f"{n},only" for n in range(60)) + "\n")
    recipe = WINE.replace('{source: "sklearn:wine"}', "{source: ill.csv, target: y}")
    (typist.directory / "ill.yaml").write_text(recipe)
    result = typist.on_cluster("ill.yaml", expect=2)
    assert result["problem"].startswith("step prepare: ")
    assert "only" in result["problem"]
    assert result["run"]["status"] == "failed"


def test_what_a_cluster_cannot_honour_is_refused_by_name_before_anything_starts(
    typist: Typist, installation: Installation
) -> None:
    (typist.directory / "wine.yaml").write_text(WINE)
    before = pods_of_runs(installation)
    words = ("--set", "resources.cluster.worker.processes=3", "--set", "resources.cluster.worker.gpus=1")
    process = typist.start("run", "wine.yaml", "--on", "cluster", *typist.place, *words)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "resources.cluster.worker.processes: 3: train.num_workers, 2, is not a multiple of it" in err
    assert "resources.cluster.worker.gpus: 1: each of the 3 processes of a pod uses one" in err
    assert pods_of_runs(installation) == before


def test_the_runs_of_a_cluster_are_listed_from_any_directory_without_naming_its_root(typist: Typist) -> None:
    (typist.directory / "wine.yaml").write_text(WINE)
    root = typist.settings.storage.root
    workspace = Workspace(root, typist.directory / "local", s3=storage_from_outside(typist.settings, None))
    resolved = resolve(load_recipe(typist.directory / "wine.yaml", ()), typist.directory, place="cluster")
    run_id = new_run(workspace, publish_inputs(resolved, workspace))
    there = ("--on", "cluster", "--namespace", typist.settings.namespace)
    listed = typist.run("runs", *there)
    assert (run_id, "running") in [(each["run_id"], each["status"]) for each in listed]
    assert typist.run("runs", "show", run_id, *there)["run"]["run_id"] == run_id
    out, _ = typist.start("runs", *there).communicate(timeout=60)
    assert f"to follow what runs: windlass runs attach {run_id} --namespace {typist.settings.namespace}" in out


def test_the_secrets_that_a_recipe_names_reach_steps_and_training_pods(
    typist: Typist, installation: Installation
) -> None:
    (typist.directory / "net.py").write_text(NEEDS_A_TOKEN)
    (typist.directory / "wine.yaml").write_text(WINE.replace("architecture: linear", 'architecture: "net.py:Net"'))
    words = ("--step", "compress", "--set", "resources.cluster.env_secrets=[team]")
    refused = typist.start("run", "wine.yaml", "--on", "cluster", *typist.place, *words)
    _, err = refused.communicate(timeout=60)
    assert refused.returncode == 2
    assert f"{installation.namespace} has no Secret 'team'; make it, or leave it out: kubectl" in err

    installation.kubectl("create", "secret", "generic", "team", "--from-literal=TEAM_TOKEN=from a secret")
    result = typist.on_cluster("wine.yaml", *words)
    assert [step["step"] for step in result["run"]["steps"]] == ["prepare", "train", "compress"]
