"""The chart as it stands in a cluster."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from cluster_installation import Installation

pytestmark = pytest.mark.cluster

_METRICS_WITHIN_S = 90
_IDLE_LIMIT_MIB = 1.2 * 1024


def test_helm_test_goes_the_whole_way_of_a_version_and_leaves_nothing(installation: Installation) -> None:
    installation.test()
    with installation.forward(f"{installation.release}-gateway", 8080) as url:
        names = {model["name"] for model in _json(f"{url}/v1/models")["models"]}
    assert "windlass-helm-test" not in names
    assert "NotFound" in installation.kubectl("get", "pod", f"{installation.release}-test", check=False).stderr


def test_the_settings_name_what_is_there(installation: Installation) -> None:
    settings = installation.settings
    assert settings.namespace == installation.namespace
    for account in (settings.pipeline_service_account, settings.training_service_account):
        installation.get("serviceaccount", account)
    installation.get("secret", settings.storage.secret or "")


def test_the_tracking_server_refuses_a_foreign_host(installation: Installation) -> None:
    with installation.forward(f"{installation.release}-mlflow", 5000) as url:
        address = f"{url}/api/2.0/mlflow/experiments/get?experiment_id=0"
        assert _json(address)["experiment"]["artifact_location"] == "mlflow-artifacts:/0"
        request = urllib.request.Request(address, headers={"Host": "attacker.example"})
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(request, timeout=10)
        assert refusal.value.code == 403
        refusal.value.close()


def test_idle_it_takes_less_than_1_2_gib(
    installation: Installation, record_property: Callable[[str, object], None]
) -> None:
    path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{installation.namespace}/pods"
    path += f"?labelSelector=app.kubernetes.io/instance={installation.release}"
    deadline_s = time.monotonic() + _METRICS_WITHIN_S
    memory_mib: dict[str, float] = {}
    while len(memory_mib) < 3:
        assert time.monotonic() < deadline_s, f"the metrics server has not seen all pods: {sorted(memory_mib)}"
        answer = installation.kubectl("get", "--raw", path, check=False)
        if answer.returncode:
            pytest.skip("the cluster has no metrics server")
        memory_mib = {
            pod["metadata"]["name"]: sum(_mib(container["usage"]["memory"]) for container in pod["containers"])
            for pod in json.loads(answer.stdout)["items"]
        }
        time.sleep(1)
    record_property("idle_memory_mib", json.dumps(memory_mib))
    assert sum(memory_mib.values()) < _IDLE_LIMIT_MIB, memory_mib


def _mib(quantity: str) -> float:
    return int(quantity.removesuffix("Ki")) / 1024


def _json(address: str | urllib.request.Request) -> Any:
    with urllib.request.urlopen(address, timeout=10) as reply:
        return json.loads(reply.read())
