"""`windlass run --kfp`, `runs attach` and `runs cancel`: what a person sees, and what the process ends with."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client

import kubeflow_api
from installations import installation_settings
from kubeflow_api import Frame, KubeflowServer
from windlass.cluster.discovery import NoKubeflowError
from windlass.cluster.launcher import Launcher
from windlass.cluster.settings import StorageSettings
from windlass.recipe.errors import RecipeError
from windlass.recipe.runs import finish_run, list_runs, read_run
from windlass.storage import Workspace
from windlass_cli.commands.on_cluster import EXIT_DETACHED, Cluster
from windlass_cli.commands.on_kubeflow import attach, cancel, run_on_kubeflow
from windlass_pipelines.kubeflow import find_record
from windlass_pipelines.kubeflow_api import KubeflowRefusedError

NAMESPACE = "team-a"
SECRET = f"/api/v1/namespaces/{NAMESPACE}/secrets/database"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[KubeflowServer]:
    for name in ("WINDLASS_KFP_TOKEN", "KF_PIPELINES_SA_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    with kubeflow_api.running_server() as running:
        running.objects[f"/api/v1/namespaces/{NAMESPACE}/pods"] = {"items": []}
        yield running


@pytest.fixture
def cluster(server: KubeflowServer, workspace: Workspace) -> Cluster:
    api = client.ApiClient(client.Configuration(host=server.url))
    settings = installation_settings(namespace=NAMESPACE, storage=StorageSettings(root="s3://runs/team-a"))
    return Cluster(settings, workspace, api, Launcher(api, kind="job"), f" --namespace {NAMESPACE}")


def run(recipe: Path, cluster: Cluster, server: KubeflowServer, *overrides: str, as_json: bool = False) -> int:
    return run_on_kubeflow(recipe, list(overrides), step="prepare", url=server.url, cluster=cluster, as_json=as_json)


def only_run(cluster: Cluster) -> str:
    (record,) = list_runs(cluster.workspace)
    return record.run_id


def test_a_run_ends_with_its_result_as_one_document_and_nothing_else_on_stdout(
    recipe: Path, cluster: Cluster, server: KubeflowServer, capfd: pytest.CaptureFixture[str]
) -> None:
    server.frames = [Frame("SUCCEEDED")]
    assert run(recipe, cluster, server, as_json=True) == 0
    out, err = capfd.readouterr()
    document = json.loads(out)
    assert document["problem"] is None
    assert document["run"]["status"] == "succeeded"
    assert document["run"]["command"].endswith(f"--on cluster --kfp {server.url} --namespace {NAMESPACE}")
    assert document["log"].startswith(f"{server.url}/#/runs/details/")
    assert [json.loads(line)["kind"] for line in err.splitlines()] == ["message"]


def test_ctrl_c_leaves_it_running_and_says_how_to_come_back(
    recipe: Path, cluster: Cluster, server: KubeflowServer, capfd: pytest.CaptureFixture[str]
) -> None:
    server.frames = [Frame("RUNNING", before=lambda: os.kill(os.getpid(), signal.SIGINT)), Frame("SUCCEEDED")]
    assert run(recipe, cluster, server) == EXIT_DETACHED
    run_id = only_run(cluster)
    assert f"windlass runs attach {run_id} --namespace {NAMESPACE}" in capfd.readouterr().err
    assert read_run(cluster.workspace, run_id).status == "running"

    assert attach(run_id, cluster, url=None, as_json=False) == 0
    assert attach(run_id, cluster, url=None, as_json=False) == 0
    assert capfd.readouterr().out.count(f"run: {run_id}, succeeded") == 2


def test_a_run_is_cancelled_by_its_name_alone(
    recipe: Path, cluster: Cluster, server: KubeflowServer, capfd: pytest.CaptureFixture[str]
) -> None:
    server.frames = [Frame("RUNNING", before=lambda: os.kill(os.getpid(), signal.SIGINT)), Frame("RUNNING")]
    run(recipe, cluster, server)
    run_id = only_run(cluster)
    server.on_terminate = lambda: server.frames.append(Frame("FAILED"))
    cancel(run_id, cluster, url=None)
    cancel(run_id, cluster, url=None)
    out = capfd.readouterr().out
    assert f"{run_id} is cancelled; what is done is kept; to go on: windlass run" in out
    assert f"{run_id} has ended already: interrupted" in out
    assert len(server.terminated) == 1


def test_what_kubeflow_pipelines_cannot_honour_is_refused_before_a_run_is_opened(
    recipe: Path, cluster: Cluster, server: KubeflowServer
) -> None:
    with pytest.raises(RecipeError, match=r"resources\.cluster\.priority_class"):
        run(recipe, cluster, server, "resources.cluster.priority_class=high")
    assert list_runs(cluster.workspace) == []
    assert server.requests == []


def test_all_keys_of_the_secrets_that_a_recipe_names_become_variables_of_the_steps(
    recipe: Path, cluster: Cluster, server: KubeflowServer
) -> None:
    server.objects[SECRET] = {"data": {"USER": "eA==", "PASSWORD": "eQ=="}}
    server.frames = [Frame("SUCCEEDED")]
    run(recipe, cluster, server, "resources.cluster.env_secrets=[database]")
    (there,) = server.runs.values()
    executor = there.pipeline_spec["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    secrets = executor["exec-prepare"]["secretAsEnv"]
    variables = [(each["secretName"], key["envVar"]) for each in secrets for key in each["keyToEnv"]]
    assert variables == [("database", "PASSWORD"), ("database", "USER")]
    assert "eQ==" not in json.dumps(there.pipeline_spec)


def test_a_secret_that_is_not_there_is_named_with_the_command_that_makes_it_before_a_run_is_opened(
    recipe: Path, cluster: Cluster, server: KubeflowServer
) -> None:
    said = r"env_secrets: team-a has no Secret 'absent'; make it, .*: kubectl -n team-a create secret generic absent"
    with pytest.raises(RecipeError, match=said):
        run(recipe, cluster, server, "resources.cluster.env_secrets=[absent]")
    assert list_runs(cluster.workspace) == []
    assert server.runs == {}


def test_a_run_that_may_not_be_started_is_closed_as_failed(
    recipe: Path, cluster: Cluster, server: KubeflowServer
) -> None:
    server.is_forbidden = True
    with pytest.raises(KubeflowRefusedError, match="ask whoever runs it for the right"):
        run(recipe, cluster, server)
    assert read_run(cluster.workspace, only_run(cluster)).status == "failed"
    assert find_record(cluster.workspace, only_run(cluster)) is None


def test_another_address_of_the_same_server_can_be_given_to_attach(
    recipe: Path, cluster: Cluster, server: KubeflowServer
) -> None:
    server.frames = [Frame("RUNNING", before=lambda: os.kill(os.getpid(), signal.SIGINT)), Frame("SUCCEEDED")]
    run(recipe, cluster, server)
    other = server.url.replace("127.0.0.1", "localhost")
    assert attach(only_run(cluster), cluster, url=other, as_json=True) == 0


@pytest.fixture
def found(server: KubeflowServer) -> KubeflowServer:
    """The same server, found in the cluster."""
    ports = [{"name": "http", "port": 8888}]
    server.objects["/api/v1/namespaces/kubeflow/services/ml-pipeline"] = {"spec": {"ports": ports}}
    return server


def test_kubeflow_pipelines_is_found_in_the_cluster_and_again_by_attach_and_asked_through_the_api_server(
    recipe: Path, cluster: Cluster, found: KubeflowServer, capfd: pytest.CaptureFixture[str]
) -> None:
    found.frames = [Frame("RUNNING", before=lambda: os.kill(os.getpid(), signal.SIGINT)), Frame("SUCCEEDED")]
    code = run_on_kubeflow(recipe, [], step="prepare", url="auto", cluster=cluster, as_json=False)
    assert code == EXIT_DETACHED
    assert "with `kubectl -n kubeflow port-forward service/ml-pipeline-ui 8080:80`" in capfd.readouterr().err
    run_id = only_run(cluster)
    assert attach(run_id, cluster, url=None, as_json=True) == 0
    command = json.loads(capfd.readouterr().out)["run"]["command"]
    assert command.endswith(f"--on cluster --kfp auto --namespace {NAMESPACE}")
    asked = [path for _, path in found.requests if "/apis/v2beta1/" in path]
    assert asked
    assert all(path.startswith(kubeflow_api.PROXY) for path in asked)


def test_the_token_of_the_clusters_user_goes_with_each_request(
    recipe: Path, cluster: Cluster, found: KubeflowServer
) -> None:
    tokens = iter(["first"])
    found.token = "first"

    def renew(configuration: client.Configuration) -> None:
        found.token = next(tokens, "renewed")
        configuration.api_key["authorization"] = f"Bearer {found.token}"

    cluster.api.configuration.api_key["authorization"] = "Bearer old"
    cluster.api.configuration.refresh_api_key_hook = renew
    found.frames = [Frame("SUCCEEDED")]
    assert run_on_kubeflow(recipe, [], step="prepare", url="auto", cluster=cluster, as_json=True) == 0
    assert found.token == "renewed"


def test_a_cluster_without_kubeflow_pipelines_says_where_it_was_looked_for(recipe: Path, cluster: Cluster) -> None:
    with pytest.raises(NoKubeflowError, match=r"team-a and kubeflow have no Service 'ml-pipeline'.*leave --kfp out"):
        run_on_kubeflow(recipe, [], step="prepare", url="auto", cluster=cluster, as_json=True)
    assert list_runs(cluster.workspace) == []


def test_a_closed_run_is_shown_without_asking_anybody(recipe: Path, cluster: Cluster, server: KubeflowServer) -> None:
    server.frames = [Frame("RUNNING", before=lambda: os.kill(os.getpid(), signal.SIGINT))]
    run(recipe, cluster, server)
    finish_run(cluster.workspace, only_run(cluster), 75)
    server.requests.clear()
    assert attach(only_run(cluster), cluster, url="http://127.0.0.1:9", as_json=True) == 75
    assert server.requests == []


def test_a_run_on_this_machine_is_not_sent_to_kubeflow_pipelines(
    recipe: Path, server: KubeflowServer, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from windlass_cli.main import main

    monkeypatch.delenv("WINDLASS_KFP", raising=False)
    monkeypatch.setattr(sys, "argv", ["windlass", "run", str(recipe), "--kfp", server.url])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "add --on cluster" in capfd.readouterr().err
