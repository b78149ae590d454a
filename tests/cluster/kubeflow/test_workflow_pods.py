"""The pods of a workflow on a real cluster, and the training jobs that it owns."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from typing import Any

import pytest

from windlass.cluster.workflows import WorkflowPods, secret_keys

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not os.environ.get("KUBECONFIG"), reason="KUBECONFIG names no cluster"),
]

WORKFLOW = {
    "apiVersion": "argoproj.io/v1alpha1",
    "kind": "Workflow",
    "name": "windlass-recipe-x5k2p",
    "uid": "6f1a4f0e-0000-4000-8000-000000000001",
}
IMAGE = "localhost/windlass-absent:1"


@pytest.fixture
def namespace() -> Iterator[str]:
    from kubernetes import client, config

    config.load_kube_config()
    name = f"windlass-kfp-{secrets.token_hex(3)}"
    client.CoreV1Api().create_namespace({"metadata": {"name": name}})
    yield name
    client.CoreV1Api().delete_namespace(name)


def pod(name: str, run_id: str) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "labels": {"pipeline/runid": run_id},
            "ownerReferences": [{**WORKFLOW, "controller": True}],
        },
        "spec": {"containers": [{"name": "main", "image": IMAGE, "imagePullPolicy": "Never"}]},
    }


def training_job(name: str, owner_uid: str) -> dict[str, Any]:
    container = {"name": "pytorch", "image": IMAGE}
    return {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/managed-by": "windlass"},
            "ownerReferences": [{**WORKFLOW, "uid": owner_uid}],
        },
        "spec": {
            "runPolicy": {"suspend": True},
            "pytorchReplicaSpecs": {"Worker": {"replicas": 1, "template": {"spec": {"containers": [container]}}}},
        },
    }


def test_a_run_says_why_its_pods_wait_and_deletes_its_own_training_jobs_only(namespace: str) -> None:
    from kubernetes import client

    core, custom = client.CoreV1Api(), client.CustomObjectsApi()
    core.create_namespaced_pod(namespace, pod("mine", "run-1"))
    core.create_namespaced_pod(namespace, pod("another", "run-2"))
    where = {"group": "kubeflow.org", "version": "v1", "namespace": namespace, "plural": "pytorchjobs"}
    custom.create_namespaced_custom_object(**where, body=training_job("mine", WORKFLOW["uid"]))
    custom.create_namespaced_custom_object(**where, body=training_job("another", WORKFLOW["uid"][:-1] + "2"))
    pods = WorkflowPods(core.api_client, namespace, "pipeline/runid=run-1")

    deadline_s = time.monotonic() + 60
    while not (reasons := pods.why_they_wait()):
        assert time.monotonic() < deadline_s
        time.sleep(0.5)
    assert len(reasons) == 1
    assert reasons[0].startswith(f"pod mine waits: image {IMAGE} cannot be pulled")

    assert pods.delete_jobs() == ["mine"]
    assert pods.delete_jobs() == []
    left = custom.list_namespaced_custom_object(**where)["items"]
    assert [job["metadata"]["name"] for job in left] == ["another"]


def test_the_keys_of_a_secret_are_its_names(namespace: str) -> None:
    from kubernetes import client

    core = client.CoreV1Api()
    core.create_namespaced_secret(namespace, {"metadata": {"name": "database"}, "stringData": {"B": "1", "A": "2"}})
    assert secret_keys(core.api_client, namespace, "database") == ("A", "B")
