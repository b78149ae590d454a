"""Training jobs that ask for more than a training job needs, sent to a real API server as a run sends them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from cluster_installation import Installation
from windlass.cluster.jobs import DistributedJob, EmptyDir
from windlass.cluster.render import render_pytorchjob, render_trainjob

pytestmark = [pytest.mark.cluster, pytest.mark.attack]

_HOST = {"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}
_PRIVILEGED = {"securityContext": {"privileged": True}}
_ACCOUNT = "training pods run as service account windlass-training and no other"
_CRDS = {"pytorchjob": "pytorchjobs.kubeflow.org", "trainjob": "trainjobs.trainer.kubeflow.org"}


def _pytorchjob(account: str | None, pod: dict[str, Any], container: dict[str, Any]) -> dict[str, Any]:
    spec = {"containers": [{"name": "pytorch", "image": "localhost/none:1", **container}], **pod}
    worker = {
        "containers": [{"name": "pytorch", "image": "localhost/none:1"}],
        "serviceAccountName": "windlass-training",
    }
    replicas = {
        "Worker": {"replicas": 1, "template": {"spec": worker}},
        "Master": {"replicas": 1, "template": {"spec": spec | ({"serviceAccountName": account} if account else {})}},
    }
    return {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "metadata": {"name": "sly"},
        "spec": {"pytorchReplicaSpecs": replicas},
    }


def _trainjob(account: str | None, pod: dict[str, Any], container: dict[str, Any]) -> dict[str, Any]:
    spec = dict(pod) | ({"serviceAccountName": account} if account else {})
    if container:
        spec["containers"] = [{"name": "node", **container}]
    job = {"name": "node", "template": {"spec": {"template": {"spec": spec}}}}
    patch = {"manager": "windlass.io/run", "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [job]}}}}
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": "sly"},
        "spec": {
            "runtimeRef": {"name": "torch-distributed"},
            "trainer": {"image": "localhost/none:1"},
            "runtimePatches": [patch],
        },
    }


_MAKE = {"pytorchjob": _pytorchjob, "trainjob": _trainjob}
_ATTACKS: dict[str, tuple[str | None, dict[str, Any], dict[str, Any], str]] = {
    "another account": ("windlass-pipeline", {}, {}, _ACCOUNT),
    "the default account": (None, {}, {}, _ACCOUNT),
    "a hostPath": ("windlass-training", _HOST, {}, "may not mount hostPath volumes"),
    "a privileged container": ("windlass-training", {}, _PRIVILEGED, "may not be privileged"),
}


def _create(installation: Installation, kind: str, job: dict[str, Any], account: str | None) -> Any:
    crd = installation.kubectl("get", "crd", _CRDS[kind], check=False)
    if crd.returncode:
        pytest.skip(f"the cluster has no {_CRDS[kind]}")
    user = [f"--as={installation.account(account)}"] if account else []
    arguments = ["create", "--dry-run=server", "--validate=false", "-f", "-", *user]
    return installation.kubectl(*arguments, text=json.dumps(job), check=False)


@pytest.mark.parametrize("kind", _MAKE)
@pytest.mark.parametrize("attack", _ATTACKS)
def test_a_training_job_that_asks_for_too_much_is_denied_and_told_why(
    installation: Installation, kind: str, attack: str
) -> None:
    account, pod, container, message = _ATTACKS[attack]
    answer = _create(installation, kind, _MAKE[kind](account, pod, container), "windlass-pipeline")
    assert answer.returncode != 0
    assert "denied request" in answer.stderr
    assert message in answer.stderr


@pytest.mark.parametrize("namespace", ["hostNetwork", "hostPID", "hostIPC"])
def test_a_training_job_that_shares_the_nodes_namespaces_is_denied(installation: Installation, namespace: str) -> None:
    job = _pytorchjob("windlass-training", {namespace: True}, {})
    answer = _create(installation, "pytorchjob", job, "windlass-pipeline")
    assert "may not share the node's namespaces" in answer.stderr


def test_a_train_job_without_a_patch_would_run_as_another_account_and_is_denied(installation: Installation) -> None:
    job = _trainjob("windlass-training", {}, {})
    del job["spec"]["runtimePatches"]
    assert _ACCOUNT in _create(installation, "trainjob", job, "windlass-pipeline").stderr


@pytest.mark.parametrize("kind", _MAKE)
def test_a_training_job_as_runs_make_it_is_taken(installation: Installation, kind: str) -> None:
    answer = _create(installation, kind, _MAKE[kind]("windlass-training", {}, {}), "windlass-pipeline")
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize(("kind", "render"), [("pytorchjob", render_pytorchjob), ("trainjob", render_trainjob)])
def test_what_our_launcher_makes_is_taken(
    installation: Installation, kind: str, render: Callable[[DistributedJob], dict[str, Any]]
) -> None:
    settings = installation.settings
    job = DistributedJob(
        name="ours",
        namespace=installation.namespace,
        image=settings.image,
        command=("python", "-m", "windlass.training.pod"),
        workers=2,
        service_account=settings.training_service_account,
        volumes=(EmptyDir("/dev/shm", in_memory=True),),  # noqa: S108
    )
    answer = _create(installation, kind, render(job), "windlass-pipeline")
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("kind", _MAKE)
def test_jobs_of_people_are_not_the_policys_business(installation: Installation, kind: str) -> None:
    answer = _create(installation, kind, _MAKE[kind]("default", {}, {}), None)
    assert answer.returncode == 0, answer.stderr
