"""`windlass doctor --on cluster`: whether a cluster can carry out runs, and what to do where it cannot."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import windlass
from windlass.cluster import checks
from windlass.cluster.checks import Finding, Rest
from windlass.cluster.discovery import (
    NoClusterError,
    NoInstallationError,
    SeveralInstallationsError,
    connect,
    find_settings,
)
from windlass.cluster.errors import ApiError, ClusterUnreachableError
from windlass.cluster.launcher import Launcher
from windlass.cluster.settings import ClusterSettings, InvalidSettingsError
from windlass.errors import InvalidInputError
from windlass.progress import message
from windlass.recipe.model import ClusterResources
from windlass.storage import Workspace
from windlass.training.config import TrainConfig
from windlass_cli.commands.doctor import show
from windlass_cli.defaults import DEFAULT_ROOT
from windlass_cli.display import open_display
from windlass_pipelines.cluster import storage_from_outside
from windlass_pipelines.probe import STORAGE_PATIENCE_S, check_from_pod, check_storage, secret_command

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

_PATIENCE_S = 3.0
"""How long the API server may be away; a run waits for minutes, whoever asks what is wrong does not."""
_POD_PATIENCE_S = 20.0
"""How long an image may fail to be pulled, or the pod may be refused."""
_UNAUTHORIZED, _FORBIDDEN = 401, 403


def check_cluster(root: str, *, namespace: str | None, context: str | None, with_pod: bool, as_json: bool) -> int:
    """Look at everything that a run on a cluster needs, show it, and give 1 if a problem was found.

    Raises:
        InvalidInputError: pods cannot reach the root.
        LaunchInterruptedError: Ctrl-C; the probe's pod is deleted.
    """
    if root != DEFAULT_ROOT and not root.startswith("s3://"):
        raise InvalidInputError(f"--root {root}: pods cannot reach it; leave it out, or give s3://bucket/prefix")
    with open_display(as_json=as_json):
        findings = list(_examine(root, namespace, context, with_pod=with_pod))
    return show(findings, as_json=as_json)


def _examine(root: str, namespace: str | None, context: str | None, *, with_pod: bool) -> Iterator[Finding]:
    """Ends with the first finding behind which nothing else can be asked."""
    try:
        api, default_namespace = connect(context)
    except NoClusterError as error:
        yield Finding("cluster", "problem", error.problem, "set KUBECONFIG, or choose a --context that it has")
        return
    rest, place = Rest(api, outage_s=_PATIENCE_S), namespace or default_namespace
    try:
        yield checks.check_version(rest)
        yield from _examine_cluster(rest, place)
        settings = find_settings(api, place)
        if root != DEFAULT_ROOT:
            storage = settings.storage.model_copy(update={"root": root})
            settings = settings.model_copy(update={"storage": storage})
        yield from _examine_installation(api, rest, settings, with_pod=with_pod)
    except (NoInstallationError, SeveralInstallationsError, InvalidSettingsError) as error:
        yield _no_settings(error, place)
    except ClusterUnreachableError as error:
        action = "kubectl cluster-info; correct `server` in KUBECONFIG, or start the cluster, the VPN, the tunnel"
        yield Finding("cluster", "problem", f"{error.host} does not answer: {error.reason}", action)
    except ApiError as error:
        yield _refused(error)


def _no_settings(error: InvalidInputError, namespace: str) -> Finding:
    found, _, action = str(error).partition("; ")
    if isinstance(error, NoInstallationError):
        found = f"namespace {namespace!r} has no installation of Windlass"
        action = f"helm -n {namespace} install windlass charts/windlass -f VALUES.yaml, or another --namespace"
    return Finding("installation", "problem", found, action)


def _refused(error: ApiError) -> Finding:
    if error.status == _UNAUTHORIZED:
        action = "log in to the cluster again; kubectl auth whoami says when it has worked"
        return Finding("cluster", "problem", f"the credentials of KUBECONFIG are refused: {error.message}", action)
    action = (
        "let an administrator type what is said of your rights above"
        if error.status == _FORBIDDEN
        else f"see the log of the API server for {error.method} {error.path}"
    )
    return Finding("cluster", "problem", error.message, action)


def _examine_cluster(rest: Rest, namespace: str) -> Iterator[Finding]:
    """What can be said of the cluster and of the user without an installation."""
    yield checks.check_namespace(rest, namespace)
    yield from checks.check_user_rights(rest, namespace)
    yield from checks.check_quota(rest, namespace, _needs())
    yield checks.check_nodes(rest, [(f"{cpu:g}", str(memory)) for cpu, memory in _pods()])
    yield checks.check_gpus(rest)


def _examine_installation(
    api: ApiClient, rest: Rest, settings: ClusterSettings, *, with_pod: bool
) -> Iterator[Finding]:
    release = checks.find_release(rest, settings)
    yield checks.check_release(settings, release, windlass.__version__)
    yield from checks.check_operators(rest, settings.training_kind, settings.training_runtime)
    yield from checks.check_run_rights(rest, settings)
    yield from checks.check_driver_rights(rest, settings)
    yield checks.check_kubeflow(rest, settings.namespace)
    secrets = checks.check_secrets(rest, settings, secret_command(settings))
    yield from secrets
    yield _check_storage_from_here(settings)
    if not with_pod:
        return
    if missing := [each.name for each in secrets if each.status == "problem"]:
        yield Finding("pod", "warning", f"not tried: {missing[0]} has a problem", "mend that, and look again")
        return
    yield from check_from_pod(settings, Launcher(api, kind="job", patience_s=_POD_PATIENCE_S), message)


def _check_storage_from_here(settings: ClusterSettings) -> Finding:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    reached = storage_from_outside(settings, endpoint).model_copy(update={"retry_for_s": STORAGE_PATIENCE_S})
    with tempfile.TemporaryDirectory() as directory:
        return check_storage(
            "storage",
            Workspace(settings.storage.root, Path(directory), s3=reached),
            credentials="here: export AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… of who may list, read, write, delete",
            address="chart value storage.publicEndpoint, or here: export AWS_ENDPOINT_URL=…",
        )


def _pods() -> list[tuple[float, int]]:
    """Cores and bytes of the pods that a run with every default has at once: its own and those of its training job."""
    asked = ClusterResources()
    worker = (asked.worker.cpu, asked.worker.memory)
    return [(asked.step.cpu, asked.step.memory), *[worker] * TrainConfig().num_workers]


def _needs() -> dict[str, str]:
    """The same as quotas count it."""
    pods = _pods()
    memory = f"{sum(memory for _, memory in pods)}"
    return {
        "pods": f"{len(pods)}",
        "count/jobs.batch": "1",
        "requests.cpu": f"{sum(cpu for cpu, _ in pods):g}",
        "requests.memory": memory,
        "limits.memory": memory,
    }
