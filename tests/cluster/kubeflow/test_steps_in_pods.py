"""The steps of a compiled run in pods like those of Kubeflow Pipelines, whose own engine is not here.

What its driver and launcher would do, this does: it fills in the parameters, brings artifacts to the paths of their
addresses, makes the Secrets' keys variables, drops capabilities, and makes a Workflow the owner of each pod.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from cluster_installation import Installation
from windlass.recipe.inputs import publish_inputs
from windlass.recipe.load import load_recipe
from windlass.recipe.resolve import resolve
from windlass.recipe.runs import new_run, read_run
from windlass.storage import Workspace
from windlass_pipelines.cluster import storage_from_outside
from windlass_pipelines.kubeflow_package import compile_run

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

RECIPE = """\
name: wine
task: tabular-classification
data: {source: "sklearn:wine"}
train: {epochs: 2, global_batch_size: 32, num_workers: 2}
compress: {candidates: [int8]}
resources:
  cluster:
    worker: {cpu: 0.05, memory: 700MB}
    step: {cpu: 0.05, memory: 2600MB}
"""
WORKFLOW = {
    "apiVersion": "argoproj.io/v1alpha1",
    "kind": "Workflow",
    "name": "windlass-recipe-x5k2p",
    "uid": "6f1a4f0e-0000-4000-8000-000000000003",
}
ENDS_WITHIN_S = 180


def pod_of(spec: Any, step: str, parameters: dict[str, str], artifacts: dict[str, str]) -> dict[str, Any]:
    """One executor's pod; `artifacts` are the contents of its inputs by name."""
    container = spec["pipeline_spec"]["deploymentSpec"]["executors"][f"exec-{step}"]["container"]
    place = spec["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"][f"exec-{step}"]
    name = f"{WORKFLOW['name']}-system-container-impl-a-longer-name-than-hosts-have-{step}"
    component = spec["pipeline_spec"]["components"][f"comp-{step}"]
    inputs = {
        name: _artifact(f"s3://inputs/{name}", component["inputDefinitions"]["artifacts"][name]) for name in artifacts
    }
    executor_input = {
        "inputs": {"parameterValues": parameters, "artifacts": inputs},
        "outputs": {
            "artifacts": {
                name: _artifact(f"s3://outputs/{name}", definition)
                for name, definition in component["outputDefinitions"]["artifacts"].items()
            },
            "outputFile": "/tmp/kfp_outputs/output_metadata.json",  # noqa: S108
        },
    }
    secrets = [
        {
            "name": key["envVar"],
            "valueFrom": {
                "secretKeyRef": {"name": each["secretName"], "key": key["secretKey"], "optional": each["optional"]}
            },
        }
        for each in place["secretAsEnv"]
        for key in each["keyToEnv"]
    ]
    resources = container["resources"]
    memory = resources["resourceMemoryLimit"]
    main = {
        "name": "main",
        "image": container["image"],
        "imagePullPolicy": place["imagePullPolicy"],
        "command": container["command"],
        "args": [json.dumps(executor_input) if word == "{{$}}" else word for word in container["args"]],
        "env": [
            *container["env"],
            *secrets,
            {"name": "KFP_POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ],
        "resources": {
            "requests": {"cpu": resources["resourceCpuRequest"], "memory": memory},
            "limits": {"memory": memory},
        },
        "securityContext": {
            **{name: int(value) for name, value in place["securityContext"].items() if name == "runAsUser"},
            "runAsNonRoot": place["securityContext"]["runAsNonRoot"],
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": "inputs", "mountPath": "/s3/inputs"},
            {"name": "outputs", "mountPath": "/s3/outputs"},
        ],
    }
    return {
        "metadata": {
            "name": name,
            "labels": place["podMetadata"]["labels"],
            "ownerReferences": [{**WORKFLOW, "controller": True}],
        },
        "spec": {
            "restartPolicy": "Never",
            "serviceAccountName": "windlass-pipeline",
            "containers": [main],
            "volumes": [
                {"name": "inputs", "configMap": {"name": f"inputs-{step}"}},
                {"name": "outputs", "emptyDir": {}},
            ],
        },
    }


def _artifact(uri: str, definition: Any) -> dict[str, Any]:
    kind = definition["artifactType"]
    return {"artifacts": [{"name": uri.rpartition("/")[2], "uri": uri, "type": kind, "metadata": {}}]}


def run_step(installation: Installation, pod: dict[str, Any], step: str, artifacts: dict[str, str]) -> None:
    inputs = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"inputs-{step}"}, "data": artifacts}
    both = json.dumps(
        {"apiVersion": "v1", "kind": "List", "items": [inputs, {"apiVersion": "v1", "kind": "Pod", **pod}]}
    )
    installation.kubectl("create", "-f", "-", text=both)
    name = pod["metadata"]["name"]
    deadline_s = time.monotonic() + ENDS_WITHIN_S
    try:
        while (phase := installation.get("pod", name)["status"]["phase"]) not in ("Succeeded", "Failed"):
            assert time.monotonic() < deadline_s, installation.kubectl("describe", "pod", name).stdout[-3000:]
            time.sleep(1)
        assert phase == "Succeeded", installation.kubectl("logs", name).stdout[-4000:]
    finally:
        installation.kubectl("delete", "-f", "-", text=both)


def test_steps_run_under_pod_security_restricted_and_train_in_a_job_of_their_workflow(
    installation: Installation, tmp_path: Path
) -> None:
    settings = installation.settings
    endpoint = os.environ["WINDLASS_TEST_CLUSTER_S3_PUBLIC_ENDPOINT"]
    storage = storage_from_outside(settings, endpoint)
    workspace = Workspace(f"{settings.storage.root}/kubeflow", tmp_path / "local", s3=storage)
    (tmp_path / "wine.yaml").write_text(RECIPE)
    resolved = resolve(load_recipe(tmp_path / "wine.yaml", ()), tmp_path, place="cluster")
    run_id = new_run(workspace, publish_inputs(resolved, workspace))
    asked = resolved.recipe.resources.cluster
    spec = compile_run(settings, asked, run_id, last_step="train")
    parameters = {"root": workspace.uri, "run_id": run_id}

    run_step(installation, pod_of(spec, "prepare", parameters, {}), "prepare", {})
    (prepared,) = read_run(workspace, run_id).steps
    artifacts = {"dataset": prepared.reference.model_dump_json()}
    run_step(installation, pod_of(spec, "train", parameters, artifacts), "train", artifacts)

    record = read_run(workspace, run_id)
    assert [result.step for result in record.steps] == ["prepare", "train"]
    assert (record.status, record.exit_code) == ("running", None), "whoever follows the run closes it"
    owned = [
        job
        for job in installation.get("pytorchjobs")["items"]
        if any(owner["uid"] == WORKFLOW["uid"] for owner in job["metadata"].get("ownerReferences", ()))
    ]
    assert [job["spec"]["pytorchReplicaSpecs"]["Worker"]["replicas"] for job in owned] == [2]
