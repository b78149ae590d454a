"""Whether a cluster can carry out runs: each function looks at one thing and says what it found and what mends it.

Nothing is changed and nothing is printed.

Raises (all functions):
    ApiError: the server refuses a question for another reason than a missing right.
    ClusterUnreachableError: the server does not answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from windlass.cluster._checks_finding import FORBIDDEN, Finding, unless_forbidden
from windlass.cluster._checks_rights import (
    check_driver_rights,
    check_run_rights,
    check_user_rights,
    training_kinds,
    who_am_i,
)
from windlass.cluster._checks_room import check_gpus, check_nodes, check_quota
from windlass.cluster._rest import Rest
from windlass.cluster.discovery import NoKubeflowError, find_kubeflow
from windlass.cluster.errors import ApiError, ClusterUnreachableError
from windlass.cluster.kinds import PYTORCHJOB, TRAINJOB, JobKind
from windlass.cluster.settings import SETTINGS_LABEL, ClusterSettings

__all__ = [
    "Finding",
    "Release",
    "Rest",
    "check_driver_rights",
    "check_gpus",
    "check_kubeflow",
    "check_namespace",
    "check_nodes",
    "check_operators",
    "check_quota",
    "check_release",
    "check_run_rights",
    "check_secrets",
    "check_user_rights",
    "check_version",
    "find_release",
    "who_am_i",
]

_OLDEST = (1, 30)
_POD_SECURITY = "pod-security.kubernetes.io/enforce"
_SECRET_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@dataclass(frozen=True)
class _Operator:
    """Who carries out the jobs of a kind."""

    kind: JobKind
    labels: str
    """Of its Deployment, in whichever namespace."""
    install: str


_OPERATORS = (
    _Operator(
        PYTORCHJOB,
        "control-plane=kubeflow-training-operator",
        "kubectl apply --server-side -k "
        "'github.com/kubeflow/training-operator.git/manifests/overlays/standalone?ref=v1.9.4'",
    ),
    _Operator(
        TRAINJOB,
        "app.kubernetes.io/name=trainer,app.kubernetes.io/part-of=kubeflow",
        "kubectl apply --server-side -k 'github.com/kubeflow/trainer.git/manifests/overlays/manager?ref=v2.3.0'",
    ),
)


def check_version(rest: Rest) -> Finding:
    """Kubernetes 1.30 or newer: admission policies and what Jobs say of their pods are stable since then."""
    answer = rest.get("/version")
    found = str(answer["gitVersion"])
    version = int(answer["major"]), int("".join(filter(str.isdigit, answer["minor"])))
    if version < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        return Finding("kubernetes", "problem", found, f"upgrade the cluster to Kubernetes {oldest} or newer")
    return Finding("kubernetes", "ok", found)


def check_namespace(rest: Rest, namespace: str) -> Finding:
    """That the namespace is there, and which Pod Security it enforces; all pods of ours fit `restricted`."""

    def look() -> Finding:
        found = rest.find(f"/api/v1/namespaces/{namespace}")
        if found is None:
            return Finding(
                "namespace", "problem", f"there is no {namespace!r}", f"kubectl create namespace {namespace}"
            )
        level = (found["metadata"].get("labels") or {}).get(_POD_SECURITY)
        if level == "restricted":
            return Finding("namespace", "ok", f"{namespace}, Pod Security {level}")
        return Finding(
            "namespace",
            "warning",
            f"{namespace} admits more than our pods need: Pod Security {level or 'is not set'}",
            f"kubectl label --overwrite namespace {namespace} {_POD_SECURITY}=restricted",
        )

    return unless_forbidden("namespace", f"get namespace {namespace}", look)


def check_operators(
    rest: Rest, training_kind: Literal["auto", "pytorchjob", "trainjob"], runtime: str
) -> list[Finding]:
    """For each kind of training job whether the cluster knows it and its operator is ready, and which one runs take.

    Args:
        training_kind: as the settings have it.
        runtime: of a TrainJob, its ClusterTrainingRuntime.
    """
    wanted = training_kinds(training_kind)
    served = [each for each in _OPERATORS if each.kind in wanted and _is_served(rest, each.kind)]
    if not served:
        first = next(each for each in _OPERATORS if each.kind is wanted[0])
        names = " nor ".join(kind.name for kind in wanted)
        return [Finding("training jobs", "problem", f"the cluster does not know {names}", first.install)]
    taken, *others = served
    spare = f"; {others[0].kind.name} is there too" if others else ""
    how = "what `auto` takes" if training_kind == "auto" else "as the settings say"
    finding = _check_operator(rest, taken, f"{taken.kind.name}, {how}{spare}")
    findings = [finding]
    if taken.kind is TRAINJOB:
        findings.append(_check_runtime(rest, runtime))
    return findings


def _is_served(rest: Rest, kind: JobKind) -> bool:
    known = rest.find(f"/apis/{kind.api_version}") or {}
    return any(each["name"] == kind.plural for each in known.get("resources", ()))


def _check_operator(rest: Rest, operator: _Operator, found: str) -> Finding:
    name = "training jobs"
    try:
        query = {"labelSelector": operator.labels}
        deployments = rest.get("/apis/apps/v1/deployments", query)["items"]
    except ApiError as error:
        if error.status != FORBIDDEN:
            raise
        return Finding(
            name, "ok", f"{found}; whether its operator runs could not be seen: you may not list deployments"
        )
    if not deployments:
        return Finding(name, "warning", f"{found}; its operator was not found", operator.install)
    for each in deployments:
        if (each.get("status") or {}).get("readyReplicas"):
            return Finding(name, "ok", f"{found}; {each['metadata']['name']} is ready")
    place, deployment = deployments[0]["metadata"]["namespace"], deployments[0]["metadata"]["name"]
    action = f"kubectl -n {place} rollout status deployment/{deployment}; kubectl -n {place} describe pods"
    return Finding(name, "problem", f"{found}; {deployment} has no pod that is ready", action)


def _check_runtime(rest: Rest, runtime: str) -> Finding:
    def look() -> Finding:
        if rest.find(f"/apis/{TRAINJOB.api_version}/clustertrainingruntimes/{runtime}") is None:
            return Finding(
                "training runtime",
                "problem",
                f"there is no ClusterTrainingRuntime {runtime!r}",
                "chart value pipelines.trainingRuntime; kubectl get clustertrainingruntimes lists them",
            )
        return Finding("training runtime", "ok", f"ClusterTrainingRuntime {runtime}")

    return unless_forbidden("training runtime", "get clustertrainingruntimes", look)


def check_kubeflow(rest: Rest, namespace: str) -> Finding:
    """Whether `--kfp auto` finds Kubeflow Pipelines, and whether it answers the user; a run needs none."""
    name = "kubeflow pipelines"

    def look() -> Finding:
        try:
            service = find_kubeflow(rest, namespace)
        except NoKubeflowError as error:
            return Finding(name, "ok", f"none in {' and '.join(error.namespaces)}; one Job runs the steps")
        try:
            rest.get(f"{service.path}/apis/v2beta1/healthz")
        except ClusterUnreachableError as error:
            found = f"in {service.namespace}, and does not answer: {error.reason}"
            return Finding(name, "warning", found, f"kubectl -n {service.namespace} get pods; or run without --kfp")
        return Finding(name, "ok", f"in {service.namespace}; `windlass run --on cluster --kfp auto` uses it")

    return unless_forbidden(name, "get services and services/proxy", look)


@dataclass(frozen=True)
class Release:
    """The release of the chart that an installation is."""

    name: str
    namespace: str
    """Of the servers; runs may have another."""
    version: str
    """Of the chart's images; empty where no label says it."""

    def upgrade(self, setting: str) -> str:
        """The command that changes one value."""
        return f"helm -n {self.namespace} upgrade {self.name} charts/windlass --reuse-values --set {setting}"


def find_release(rest: Rest, settings: ClusterSettings) -> Release:
    """By what helm writes on the ConfigMap of the settings."""
    query = {"labelSelector": f"{SETTINGS_LABEL}=true"}
    found = rest.get(f"/api/v1/namespaces/{settings.namespace}/configmaps", query)["items"]
    metadata: dict[str, Any] = found[0]["metadata"] if found else {}
    annotations, labels = metadata.get("annotations") or {}, metadata.get("labels") or {}
    return Release(
        name=annotations.get("meta.helm.sh/release-name", settings.release),
        namespace=annotations.get("meta.helm.sh/release-namespace", settings.namespace),
        version=labels.get("app.kubernetes.io/version", ""),
    )


def check_release(settings: ClusterSettings, release: Release, version: str) -> Finding:
    """Whether the installation is of the same version as the command line that asks."""
    found = f"release {release.name} in {release.namespace}, image {settings.image}"
    if release.version and release.version != version:
        action = f"pip install windlass=={release.version}, or with the chart of {version}: " + release.upgrade(
            "pipelines.image.tag="
        )
        return Finding("installation", "warning", f"{found}, version {release.version}; this is {version}", action)
    return Finding("installation", "ok", f"{found}, version {release.version or 'unknown'}")


def check_secrets(rest: Rest, settings: ClusterSettings, storage_command: str) -> list[Finding]:
    """That the Secrets which the settings name are there and have their keys; no value is looked at.

    Args:
        storage_command: what makes the Secret of the object store.
    """
    namespace, storage = settings.namespace, settings.storage.secret
    login = (
        f"kubectl -n {namespace} create secret docker-registry {{}} --docker-server=… --docker-username=… "
        "--docker-password=…"
    )
    findings = [_check_secret(rest, namespace, storage, _SECRET_KEYS, storage_command)] if storage else []
    findings += [
        _check_secret(rest, namespace, name, (".dockerconfigjson",), login.format(name))
        for name in settings.image_pull_secrets
    ]
    return findings or [Finding("secrets", "ok", "none is named: pods have an identity of their own")]


def _check_secret(rest: Rest, namespace: str, name: str, keys: tuple[str, ...], action: str) -> Finding:
    title = f"secret {name}"
    try:
        found = rest.find(f"/api/v1/namespaces/{namespace}/secrets/{name}")
    except ApiError as error:
        if error.status != FORBIDDEN:
            raise
        unseen = (
            "could not be checked: you may not get Secrets, which is as it should be; the pod shows whether it is there"
        )
        return Finding(title, "warning", unseen, "nothing, if the pod has no problem")
    if found is None:
        return Finding(title, "problem", f"{namespace} has no Secret {name!r}", action)
    if missing := [key for key in keys if key not in (found.get("data") or {})]:
        return Finding(title, "problem", f"it has no key {', '.join(missing)}", action)
    return Finding(title, "ok", f"it has {', '.join(keys)}")
