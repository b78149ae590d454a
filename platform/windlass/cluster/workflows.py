"""The pods of a workflow engine's run, and the training jobs that their steps started: why they wait, how they go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from windlass.cluster._rest import Rest
from windlass.cluster.kinds import PYTORCHJOB, TRAINJOB
from windlass.cluster.pods import waiting

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

_OWNER_KIND = "Workflow"
_OURS = {"labelSelector": "app.kubernetes.io/managed-by=windlass"}


class WorkflowPods:
    """All pods of one namespace that `selector` finds: those of one run.

    Raises (all methods):
        ApiError: this identity lacks a right; the message names it.
        ClusterUnreachableError: the API server does not answer.
    """

    def __init__(self, api: ApiClient, namespace: str, selector: str) -> None:
        self._api, self._namespace, self._query = api, namespace, {"labelSelector": selector}

    def why_they_wait(self) -> list[str]:
        """One line for each pod that is not started yet, where the reason is known; asks once and is not patient."""
        pods = Rest(self._api, outage_s=0.0).get(f"/api/v1/namespaces/{self._namespace}/pods", self._query)["items"]
        reasons = (
            (pod["metadata"]["name"], waiting(pod)) for pod in pods if "deletionTimestamp" not in pod["metadata"]
        )
        return [f"pod {name} waits: {reason.text}" for name, reason in reasons if reason is not None]

    def delete_jobs(self) -> list[str]:
        """Delete the training jobs that the run's workflow owns; gives their names.

        A step that was killed before it could do so leaves its job behind.
        """
        rest = Rest(self._api)
        pods = rest.get(f"/api/v1/namespaces/{self._namespace}/pods", self._query)["items"]
        owners = {
            reference["uid"]
            for pod in pods
            for reference in pod["metadata"].get("ownerReferences", ())
            if reference["kind"] == _OWNER_KIND
        }
        deleted = []
        for kind in (PYTORCHJOB, TRAINJOB) if owners else ():
            known = (rest.find(f"/apis/{kind.api_version}") or {}).get("resources", ())
            if not any(each["name"] == kind.plural for each in known):
                continue
            for job in rest.get(kind.path(self._namespace), _OURS)["items"]:
                name = job["metadata"]["name"]
                references = {each["uid"] for each in job["metadata"].get("ownerReferences", ())}
                if references & owners and rest.delete(kind.path(self._namespace, name), "Background"):
                    deleted.append(name)
        return deleted


def secret_keys(api: ApiClient, namespace: str, name: str) -> tuple[str, ...] | None:
    """The names of a Secret's keys, in order; its values are not kept. None where there is no such Secret.

    Raises:
        ApiError: this identity may not read it.
    """
    found = Rest(api).find(f"/api/v1/namespaces/{namespace}/secrets/{name}")
    return None if found is None else tuple(sorted(found.get("data") or ()))
