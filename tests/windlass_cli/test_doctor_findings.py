"""What the doctor finds in clusters that are not at hand: old ones, full ones, without operators, with GPUs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest

from windlass.cluster import checks
from windlass.cluster.checks import Rest

PYTORCHJOBS = {"/apis/kubeflow.org/v1": {"resources": [{"name": "pytorchjobs"}]}}
TRAINJOBS = {"/apis/trainer.kubeflow.org/v1alpha1": {"resources": [{"name": "trainjobs"}]}}
DEPLOYMENTS = "/apis/apps/v1/deployments"
QUOTAS = "/api/v1/namespaces/team/resourcequotas"


@pytest.fixture
def serve() -> Iterator[Callable[[dict[str, Any]], Rest]]:
    """A server that answers these paths as an API server would, all others with 404."""
    answers: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.get(urlsplit(self.path).path)
            body = json.dumps({"message": "absent"} if answer is None else answer).encode()
            self.send_response(404 if answer is None else answer.get("code", 200))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: the test says what matters."""

    from kubernetes.client import ApiClient, Configuration

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        api = ApiClient(Configuration(host=f"http://127.0.0.1:{server.server_port}"))
        rest = Rest(api, outage_s=1.0)

        def make(given: dict[str, Any]) -> Rest:
            answers.update(given)
            return rest

        yield make
        rest.close()
        api.close()
        server.shutdown()


Serve = Callable[[dict[str, Any]], Rest]


@pytest.mark.parametrize(("minor", "status"), [("29", "problem"), ("29+", "problem"), ("30", "ok"), ("34+", "ok")])
def test_kubernetes_before_1_30_is_a_problem(serve: Serve, minor: str, status: str) -> None:
    rest = serve({"/version": {"major": "1", "minor": minor, "gitVersion": f"v1.{minor}.1"}})
    finding = checks.check_version(rest)
    assert finding.status == status
    assert ("1.30 or newer" in finding.action) == (status == "problem")


KUBEFLOW = "/api/v1/namespaces/kubeflow/services/ml-pipeline"
KUBEFLOW_SERVICE = {"spec": {"ports": [{"name": "http", "port": 8888}, {"name": "grpc", "port": 8887}]}}


def test_kubeflow_pipelines_is_found_where_its_manifests_put_it_and_asked_whether_it_answers(serve: Serve) -> None:
    rest = serve({KUBEFLOW: KUBEFLOW_SERVICE, f"{KUBEFLOW}:http/proxy/apis/v2beta1/healthz": {"multi_user": False}})
    finding = checks.check_kubeflow(rest, "team")
    assert (finding.status, finding.found) == (
        "ok",
        "in kubeflow; `windlass run --on cluster --kfp auto` uses it",
    )


def test_without_kubeflow_pipelines_nothing_is_wrong(serve: Serve) -> None:
    finding = checks.check_kubeflow(serve({}), "team")
    assert (finding.status, finding.found) == ("ok", "none in team and kubeflow; one Job runs the steps")


@pytest.mark.parametrize(
    ("answer", "found", "action"),
    [
        (
            {"code": 503, "message": "no endpoints"},
            "in kubeflow, and does not answer: ",
            "kubectl -n kubeflow get pods",
        ),
        ({"code": 403, "message": "no"}, "you may not get services and services/proxy", "let somebody who may"),
    ],
)
def test_kubeflow_pipelines_that_cannot_be_used_is_a_warning(
    serve: Serve, answer: dict[str, Any], found: str, action: str
) -> None:
    rest = serve({KUBEFLOW: KUBEFLOW_SERVICE, f"{KUBEFLOW}:http/proxy/apis/v2beta1/healthz": answer})
    finding = checks.check_kubeflow(rest, "team")
    assert finding.status == "warning"
    assert found in finding.found
    assert action in finding.action


def test_without_operators_the_first_one_is_named_with_what_installs_it(serve: Serve) -> None:
    (finding,) = checks.check_operators(serve({}), "auto", "torch-distributed")
    assert (finding.status, finding.found) == ("problem", "the cluster does not know PyTorchJob nor TrainJob")
    assert "kubectl apply --server-side -k" in finding.action


def test_the_kind_that_the_settings_ask_for_has_to_be_there(serve: Serve) -> None:
    (finding,) = checks.check_operators(serve(PYTORCHJOBS), "trainjob", "torch-distributed")
    assert finding.found == "the cluster does not know TrainJob"
    assert "trainer" in finding.action


def test_an_operator_without_a_ready_pod_is_a_problem(serve: Serve) -> None:
    deployment = {"metadata": {"name": "training-operator", "namespace": "kubeflow"}, "status": {}}
    rest = serve({**PYTORCHJOBS, DEPLOYMENTS: {"items": [deployment]}})
    (finding,) = checks.check_operators(rest, "auto", "torch-distributed")
    assert finding.status == "problem"
    assert "training-operator has no pod that is ready" in finding.found
    assert finding.action.startswith("kubectl -n kubeflow rollout status deployment/training-operator")


def test_where_operators_cannot_be_listed_that_is_said(serve: Serve) -> None:
    rest = serve({**PYTORCHJOBS, DEPLOYMENTS: {"code": 403, "message": "forbidden"}})
    (finding,) = checks.check_operators(rest, "auto", "torch-distributed")
    assert finding.status == "ok"
    assert "could not be seen: you may not list deployments" in finding.found


def test_a_training_runtime_that_is_absent_is_named(serve: Serve) -> None:
    ready = {"metadata": {"name": "trainer", "namespace": "kubeflow-system"}, "status": {"readyReplicas": 1}}
    rest = serve({**TRAINJOBS, DEPLOYMENTS: {"items": [ready]}})
    operator, runtime = checks.check_operators(rest, "auto", "mine")
    assert operator.found == "TrainJob, what `auto` takes; trainer is ready"
    assert (runtime.status, runtime.found) == ("problem", "there is no ClusterTrainingRuntime 'mine'")


def test_gpus_are_counted_by_node(serve: Serve) -> None:
    nodes = [_node("a", {"nvidia.com/gpu": "4"}), _node("b", {})]
    assert checks.check_gpus(serve({"/api/v1/nodes": {"items": nodes}})).found == "a 4"
    assert checks.check_gpus(serve({"/api/v1/nodes": {"items": nodes[1:]}})).found == "none on 1 node"


def test_a_node_that_others_fill_is_told_with_what_it_has_left(serve: Serve) -> None:
    pod = {
        "spec": {"nodeName": "a", "containers": [{"resources": {"requests": {"cpu": "1700m", "memory": "1Gi"}}}, {}]}
    }
    rest = serve({"/api/v1/nodes": {"items": [_node("a", {})]}, "/api/v1/pods": {"items": [pod]}})
    assert checks.check_nodes(rest, [("0.15", "1000000000")] * 2).status == "ok"
    finding = checks.check_nodes(rest, [("0.2", "4000000000"), ("0.15", "1000000000")])
    assert finding.status == "warning"
    assert "0.2 cores and 4.0 GB, 0.15 cores and 1.0 GB at once and would wait: a has 0.30 cores" in finding.found


def test_a_node_with_a_taint_has_no_room(serve: Serve) -> None:
    node = _node("a", {})
    node["spec"]["taints"] = [{"key": "gpu", "effect": "NoSchedule"}]
    rest = serve({"/api/v1/nodes": {"items": [node]}, "/api/v1/pods": {"items": []}})
    assert checks.check_nodes(rest, [("1", "1G")]).status == "problem"


def test_a_quota_that_others_use_is_a_warning_and_one_that_is_too_small_a_problem(serve: Serve) -> None:
    needs = {"requests.cpu": "1.5", "pods": "2"}
    for hard, used, status in (("4", "1", "ok"), ("4", "3", "warning"), ("1", "0", "problem")):
        quota = _quota({"cpu": hard}, {"cpu": used})
        (finding,) = checks.check_quota(serve({QUOTAS: {"items": [quota]}}), "team", needs)
        assert finding.status == status
    assert """-p '{"spec":{"hard":{"cpu":"1.5"}}}'""" in finding.action


def test_a_quota_for_some_pods_only_is_not_counted(serve: Serve) -> None:
    quota = _quota({"pods": "0"}, {})
    quota["spec"]["scopes"] = ["BestEffort"]
    (finding,) = checks.check_quota(serve({QUOTAS: {"items": [quota]}}), "team", {"pods": "2"})
    assert finding.status == "ok"


def test_a_quota_of_cpu_limits_is_a_warning_for_pods_without_one(serve: Serve) -> None:
    (finding,) = checks.check_quota(serve({QUOTAS: {"items": [_quota({"limits.cpu": "8"}, {})]}}), "team", {})
    assert finding.status == "warning"
    assert "refused unless a LimitRange sets it" in finding.found


def _node(name: str, extra: dict[str, str]) -> dict[str, Any]:
    allocatable = {"cpu": "2", "memory": "8Gi", **extra}
    return {"metadata": {"name": name}, "spec": {}, "status": {"allocatable": allocatable}}


def _quota(hard: dict[str, str], used: dict[str, str]) -> dict[str, Any]:
    return {"metadata": {"name": "q", "namespace": "team"}, "spec": {"hard": hard}, "status": {"used": used}}
