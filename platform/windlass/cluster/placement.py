"""Where the pods of a run may run, and as whom: the part in which the jobs of one run do not differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict

from windlass.cluster.jobs import PullPolicy, SecretVariable, Toleration
from windlass.cluster.settings import ClusterSettings, SparkSettings


@dataclass(frozen=True)
class Placement:
    """What a recipe asks for all pods of its run."""

    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    priority_class: str | None = None
    image_pull_policy: PullPolicy | None = None
    """None: what the installation says."""


ANYWHERE = Placement()


class PodFields(TypedDict):
    """Arguments of a `DistributedJob`."""

    namespace: str
    image: str
    image_pull_policy: PullPolicy
    image_pull_secrets: tuple[str, ...]
    env: Mapping[str, str]
    secrets: tuple[SecretVariable, ...]
    node_selector: Mapping[str, str]
    tolerations: tuple[Toleration, ...]
    priority_class: str | None
    service_account: str
    user_id: int | None


def pod_fields(
    settings: ClusterSettings,
    placement: Placement,
    *,
    service_account: str,
    variables: Mapping[str, str],
    image: ClusterSettings | SparkSettings | None = None,
) -> PodFields:
    """The pods of one job of this installation; they reach its object store and have the recipe's Secrets.

    Args:
        variables: of the job itself; those of the object store come to them.
        image: whose image they run; None is that of the steps.
    """
    image = image or settings
    env = {**variables, **settings.storage_environment()}
    return PodFields(
        namespace=settings.namespace,
        image=image.image,
        image_pull_policy=placement.image_pull_policy or image.image_pull_policy,
        image_pull_secrets=settings.image_pull_secrets,
        env=env,
        secrets=(*settings.storage_credentials(), *settings.secret_variables(env)),
        node_selector=placement.node_selector,
        tolerations=placement.tolerations,
        priority_class=placement.priority_class,
        service_account=service_account,
        user_id=settings.user_id,
    )
