"""Why pods that somebody else makes do not come: refused by a quota or a policy, no node, no image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from windlass.cluster._rest import Rest
from windlass.cluster.errors import ApiError
from windlass.cluster.pods import waiting
from windlass.cluster.render import Manifest

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

_REFUSED = (403, 422)


@dataclass(frozen=True)
class Missing:
    """What the cluster says of pods that are not there yet."""

    why: str
    is_hopeless: bool
    """Waiting for a node may help; waiting for what is refused seldom does."""


def find_missing(api: ApiClient, namespace: str, selector: str, count: int, pod: Manifest) -> Missing | None:
    """Why fewer than `count` pods run; None where all are there or nothing is known yet.

    Where pods are missing, the cluster is asked whether it would let one more in; nothing is made.

    Args:
        selector: of the labels of these pods.
        pod: one of them, as it would be created.

    Raises:
        ApiError: this identity may not list pods.
        ClusterUnreachableError: the API server is away for more than five minutes.
    """
    rest, path = Rest(api), f"/api/v1/namespaces/{namespace}/pods"
    found = rest.get(path, {"labelSelector": selector})["items"]
    if len(found) < count:
        try:
            rest.create(path, {**pod, "metadata": {**pod["metadata"], "generateName": "windlass-"}}, dry_run=True)
        except ApiError as error:
            if error.status not in _REFUSED:
                raise
            return Missing(error.message, is_hopeless=True)
    reasons = [reason for each in found if (reason := waiting(each))]
    return Missing(reasons[0].text, reasons[0].cause == "image") if reasons else None
