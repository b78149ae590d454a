"""Which cluster, which namespace, and what the installation in it says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from windlass.cluster._rest import Rest
from windlass.cluster.settings import SETTINGS_KEY, SETTINGS_LABEL, ClusterSettings
from windlass.errors import InvalidInputError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

KUBEFLOW_NAMESPACE = "kubeflow"
"""Where the manifests of Kubeflow Pipelines put it."""
_KUBEFLOW_SERVICE, _KUBEFLOW_PORT = "ml-pipeline", "http"
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class NoClusterError(InvalidInputError):
    """There is no configuration by which a cluster could be reached."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"no cluster can be reached: {problem}; set KUBECONFIG, or choose a --context that it has")
        self.problem = problem


class NoInstallationError(InvalidInputError):
    """The chart is not installed for this namespace."""

    def __init__(self, namespace: str) -> None:
        super().__init__(
            f"namespace {namespace!r} has no installation of Windlass; choose another with --namespace, or install it: "
            f"helm install windlass charts/windlass --namespace {namespace}"
        )
        self.namespace = namespace


class SeveralInstallationsError(InvalidInputError):
    """Two releases serve one namespace: which one is meant cannot be told."""

    def __init__(self, namespace: str, releases: list[str]) -> None:
        super().__init__(
            f"namespace {namespace!r} has several installations of Windlass ({', '.join(releases)}); "
            "leave one, or give each a pipelines.namespace of its own"
        )
        self.namespace, self.releases = namespace, releases


class NoKubeflowError(InvalidInputError):
    """Kubeflow Pipelines was to be found in the cluster, and is not there."""

    def __init__(self, namespaces: tuple[str, ...]) -> None:
        super().__init__(
            f"no Kubeflow Pipelines was found: {' and '.join(namespaces)} have no Service {_KUBEFLOW_SERVICE!r} with a "
            f"port {_KUBEFLOW_PORT!r}; give its address to --kfp, or leave --kfp out: one Job then runs the steps"
        )
        self.namespaces = namespaces


@dataclass(frozen=True)
class KubeflowService:
    """Kubeflow Pipelines as it stands in a cluster."""

    namespace: str

    @property
    def path(self) -> str:
        """Below the API server, which passes requests on to it for whoever has the right `services/proxy`."""
        return f"/api/v1/namespaces/{self.namespace}/services/{_KUBEFLOW_SERVICE}:{_KUBEFLOW_PORT}/proxy"


def connect(context: str | None = None) -> tuple[ApiClient, str]:
    """A client for the cluster of KUBECONFIG or of the pod that this runs in, and the namespace that is meant there.

    Raises:
        NoClusterError: neither is there, or KUBECONFIG has no such context.
    """
    from kubernetes import client, config

    try:
        contexts, active = config.list_kube_config_contexts()
        chosen = active if context is None else next((each for each in contexts if each["name"] == context), None)
        if chosen is None:
            raise NoClusterError(f"KUBECONFIG has no context {context!r}")
        api = config.new_client_from_config(context=chosen["name"])
        return api, str(chosen["context"].get("namespace") or "default")
    except config.ConfigException as error:
        if context is not None or not _NAMESPACE_FILE.exists():
            raise NoClusterError(str(error)) from None
    config.load_incluster_config()
    return client.ApiClient(), _NAMESPACE_FILE.read_text(encoding="utf-8")


def find_settings(api: ApiClient, namespace: str) -> ClusterSettings:
    """What the installation that runs its pipelines in `namespace` says of itself.

    Raises:
        NoInstallationError, SeveralInstallationsError: there is none, or more than one.
        InvalidSettingsError: the installation is of another version.
        ApiError: this identity may not list ConfigMaps there.
        ClusterUnreachableError: the API server is away for more than five minutes.
    """
    query = {"labelSelector": f"{SETTINGS_LABEL}=true"}
    found = Rest(api).get(f"/api/v1/namespaces/{namespace}/configmaps", query)["items"]
    if not found:
        raise NoInstallationError(namespace)
    names = [str(each["metadata"]["name"]) for each in found]
    if len(found) > 1:
        raise SeveralInstallationsError(namespace, names)
    return ClusterSettings.from_json(found[0]["data"].get(SETTINGS_KEY, ""), f"ConfigMap {namespace}/{names[0]}")


def find_kubeflow(rest: Rest, namespace: str) -> KubeflowService:
    """Kubeflow Pipelines in `namespace`, or where its own manifests put it.

    Raises:
        NoKubeflowError: it is in neither.
        ApiError: this identity may not get Services there.
        ClusterUnreachableError: the API server does not answer.
    """
    namespaces = tuple(dict.fromkeys((namespace, KUBEFLOW_NAMESPACE)))
    for each in namespaces:
        found = rest.find(f"/api/v1/namespaces/{each}/services/{_KUBEFLOW_SERVICE}")
        if found and any(port.get("name") == _KUBEFLOW_PORT for port in found["spec"].get("ports", ())):
            return KubeflowService(each)
    raise NoKubeflowError(namespaces)
