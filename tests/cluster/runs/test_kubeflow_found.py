"""`--kfp auto` on a real cluster: a server that answers as the published schema says stands behind `ml-pipeline`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import kubeflow_api
from cluster_installation import Installation
from cluster_runs import WINE, Typist
from doctor_places import ask_doctor

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

NAME, PORT = "ml-pipeline", 8888
SERVE = f"""
import sys, time
sys.path.insert(0, "/server")
import kubeflow_api
with kubeflow_api.running_server("0.0.0.0", {PORT}) as server:
    server.frames = [kubeflow_api.Frame("SUCCEEDED")]
    time.sleep(3600)
"""


@pytest.fixture
def found(installation: Installation) -> Iterator[str]:
    """The namespace in which it stands."""
    labels = {"app": NAME}
    container = {
        "name": "server",
        "image": installation.settings.image,
        "command": ["python", "-c", SERVE],
        "readinessProbe": {"httpGet": {"path": "/apis/v2beta1/healthz", "port": PORT}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "server", "mountPath": "/server"}],
    }
    pod = {
        "containers": [container],
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [{"name": "server", "configMap": {"name": NAME}}],
        "terminationGracePeriodSeconds": 0,
    }
    service = {"selector": labels, "ports": [{"name": "http", "port": PORT}]}
    source = Path(kubeflow_api.__file__).read_text(encoding="utf-8")
    for version_and_kind, content in {
        "v1 ConfigMap": {"data": {"kubeflow_api.py": source}},
        "v1 Service": {"spec": service},
        "v1 Pod": {"spec": pod},
    }.items():
        version, kind = version_and_kind.split()
        document = {"apiVersion": version, "kind": kind, "metadata": {"name": NAME, "labels": labels}, **content}
        installation.kubectl("create", "-f", "-", text=json.dumps(document))
    installation.kubectl("wait", f"pod/{NAME}", "--for=condition=Ready", "--timeout=90s")
    yield installation.namespace
    installation.kubectl("delete", f"pod/{NAME}", f"service/{NAME}", f"configmap/{NAME}")


def test_a_run_is_started_on_the_kubeflow_pipelines_that_the_cluster_has_and_the_doctor_names_it(
    found: str, typist: Typist
) -> None:
    finding = ask_doctor(found, "--no-pod").named("kubeflow pipelines")
    assert (finding["status"], finding["found"]) == (
        "ok",
        f"in {found}; `windlass run --on cluster --kfp auto` uses it",
    )
    (typist.directory / "wine.yaml").write_text(WINE)
    result = typist.on_cluster("wine.yaml", "--kfp", "auto", "--step", "prepare")
    assert result["run"]["status"] == "succeeded"
    assert result["log"].endswith(f"with `kubectl -n {found} port-forward service/ml-pipeline-ui 8080:80`")
    again = typist.run("runs", "attach", result["run"]["run_id"], *typist.place)
    assert again["run"] == result["run"]
