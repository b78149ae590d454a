"""An installation of its own: changed, tested with direct artifacts, and taken away."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator

import pytest

import cluster_installation
from cluster_installation import Installation

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]

_KINDS = "deployments,statefulsets,pods,services,configmaps,serviceaccounts,roles,rolebindings,secrets,jobs,pvc"


@pytest.fixture
def own() -> Iterator[Installation]:
    if reason := cluster_installation.why_not():
        pytest.skip(reason)
    with cluster_installation.installed("--set", "mlflow.artifacts.mode=direct") as started:
        yield started


def test_an_upgrade_keeps_what_was_tracked_and_an_uninstall_leaves_what_it_says(own: Installation) -> None:
    with own.forward("windlass-mlflow", 5000) as url:
        body = json.dumps({"name": "kept"}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{url}/api/2.0/mlflow/experiments/create", data=body, headers=headers)
        with urllib.request.urlopen(request, timeout=20) as reply:
            assert reply.status == 200
    before = _pods(own)

    own.upgrade("--set", "gateway.settings.workers=2", "--set", "mlflow.allowedHosts={mlflow.example}")

    after = _pods(own)
    assert after["gateway"] != before["gateway"], "the gateway did not take its new settings"
    assert after["mlflow"] != before["mlflow"]
    assert after["postgres"] == before["postgres"], "the database was restarted for nothing"
    with own.forward("windlass-mlflow", 5000) as url:
        address = f"{url}/api/2.0/mlflow/experiments/get-by-name?experiment_name=kept"
        with urllib.request.urlopen(address, timeout=20) as reply:
            experiment = json.loads(reply.read())["experiment"]
    assert experiment["artifact_location"].startswith(f"s3://{own.namespace}/trial/mlflow/")
    own.test()

    own.helm("uninstall", "windlass", "--wait", "--cascade", "foreground")

    left = {f"{item['kind']}/{item['metadata']['name']}" for item in own.get(_KINDS)["items"]}
    given = {
        "Secret/windlass-database",
        "Secret/windlass-storage",
        "ConfigMap/kube-root-ca.crt",
        "ServiceAccount/default",
    }
    assert left - given == {"PersistentVolumeClaim/data-windlass-postgres-0"}
    policies = own.kubectl("get", "validatingadmissionpolicies,validatingadmissionpolicybindings", "-o", "name").stdout
    assert own.namespace not in policies


def _pods(installation: Installation) -> dict[str, str]:
    pods = installation.get("pods", "--field-selector=status.phase=Running")["items"]
    return {
        pod["metadata"]["labels"]["app.kubernetes.io/component"]: pod["metadata"]["uid"]
        for pod in pods
        if "deletionTimestamp" not in pod["metadata"]
    }
