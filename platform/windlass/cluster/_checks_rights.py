"""What an identity may do, as the API server itself answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from windlass.cluster._checks_finding import FORBIDDEN, Finding
from windlass.cluster._rest import Rest
from windlass.cluster.errors import ApiError
from windlass.cluster.kinds import BATCHJOB, PYTORCHJOB, TRAINJOB, JobKind
from windlass.cluster.settings import ClusterSettings

_AUTHORIZATION = "authorization.k8s.io/v1"
_ACCOUNT_PREFIX = "system:serviceaccount:"


@dataclass(frozen=True)
class Right:
    """Verbs on one kind of object, in one namespace."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    subresource: str = ""

    @property
    def name(self) -> str:
        """As kubectl takes it: `jobs.batch`, `pods/log`."""
        name = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{name}/{self.subresource}" if self.subresource else name

    def attributes(self, namespace: str, verb: str) -> dict[str, str]:
        return {
            "namespace": namespace,
            "verb": verb,
            "group": self.group,
            "resource": self.resource,
            "subresource": self.subresource,
        }


_FOLLOWING = (
    Right("", "pods", ("get", "list", "watch")),
    Right("", "pods", ("get",), "log"),
    Right("", "events", ("list", "watch")),
)
USER_RIGHTS = (
    Right(BATCHJOB.group, BATCHJOB.plural, ("create", "get", "list", "watch", "delete")),
    *_FOLLOWING,
    Right("", "configmaps", ("list",)),
)
"""What `windlass run --on cluster` does as the user who types it."""


DRIVER_RIGHTS = (Right("", "pods", ("create", "get", "list", "watch", "delete", "deletecollection")),)
"""What Spark's driver does with its executors."""


def run_rights(kinds: Sequence[JobKind], *, with_spark: bool = False) -> tuple[Right, ...]:
    """What a run does as the pipeline's service account, where its training jobs are of these kinds."""
    verbs = ("create", "get", "list", "watch", "patch", "delete")
    return (
        *(Right(kind.group, kind.plural, verbs) for kind in kinds),
        *_FOLLOWING,
        Right(BATCHJOB.group, BATCHJOB.plural, verbs if with_spark else ("get",)),
    )


def training_kinds(name: str) -> tuple[JobKind, ...]:
    """The kinds that `training_kind` of the settings lets a run make."""
    return {"pytorchjob": (PYTORCHJOB,), "trainjob": (TRAINJOB,)}.get(name, (PYTORCHJOB, TRAINJOB))


def who_am_i(rest: Rest) -> str:
    """The user name by which the API server knows this client."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    review = rest.create("/apis/authentication.k8s.io/v1/selfsubjectreviews", body)
    return str(review["status"]["userInfo"].get("username", ""))


def check_user_rights(rest: Rest, namespace: str) -> list[Finding]:
    """Whether the user may do all that `windlass run --on cluster` does: one finding, or one for each lack."""

    def is_allowed(attributes: Mapping[str, str]) -> bool:
        return _review(rest, "SelfSubjectAccessReview", {"resourceAttributes": attributes})

    user = who_am_i(rest)
    return _findings("your rights", namespace, user, USER_RIGHTS, is_allowed)


def check_run_rights(rest: Rest, settings: ClusterSettings) -> list[Finding]:
    """Whether the service account of runs may do what a run does; a warning where the user may not ask that."""
    rights = run_rights(training_kinds(settings.training_kind), with_spark=settings.spark is not None)
    return _check_account(rest, "rights of runs", settings.namespace, settings.pipeline_service_account, rights)


def check_driver_rights(rest: Rest, settings: ClusterSettings) -> list[Finding]:
    """The same of the account of Spark's driver; nothing where the installation has no Spark."""
    if settings.spark is None:
        return []
    account = settings.spark.driver_service_account
    return _check_account(rest, "rights of spark", settings.namespace, account, DRIVER_RIGHTS)


def _check_account(rest: Rest, name: str, namespace: str, account: str, rights: Sequence[Right]) -> list[Finding]:
    user = f"{_ACCOUNT_PREFIX}{namespace}:{account}"
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]

    def is_allowed(attributes: Mapping[str, str]) -> bool:
        spec = {"resourceAttributes": attributes, "user": user, "groups": groups}
        return _review(rest, "SubjectAccessReview", spec)

    try:
        return _findings(name, namespace, user, rights, is_allowed)
    except ApiError as error:
        if error.status != FORBIDDEN:
            raise
    return [
        Finding(
            name,
            "warning",
            f"could not be checked: you may not create subjectaccessreviews, so nobody asked what {account} may do",
            "let an administrator run the same command",
        )
    ]


def _review(rest: Rest, kind: str, spec: Mapping[str, Any]) -> bool:
    body = {"apiVersion": _AUTHORIZATION, "kind": kind, "spec": spec}
    answer = rest.create(f"/apis/{_AUTHORIZATION}/{kind.lower()}s", body)
    return bool(answer["status"]["allowed"])


def _findings(
    name: str,
    namespace: str,
    user: str,
    rights: Sequence[Right],
    is_allowed: Callable[[Mapping[str, str]], bool],
) -> list[Finding]:
    lacking = []
    for right in rights:
        denied = [verb for verb in right.verbs if not is_allowed(right.attributes(namespace, verb))]
        if denied:
            found = f"{user} may not {', '.join(denied)} {right.name} in {namespace}"
            lacking.append(Finding(name, "problem", found, _grant(right, denied, namespace, user)))
    if lacking:
        return lacking
    names = ", ".join(right.name for right in rights)
    return [Finding(name, "ok", f"{user} may do what it needs with {names}")]


def _grant(right: Right, verbs: Sequence[str], namespace: str, user: str) -> str:
    """Two commands for somebody who may grant it: a Role of just that, and who has it."""
    role = f"windlass-{right.resource}{'-' if right.subresource else ''}{right.subresource}"
    subject = f"--user={user}"
    if user.startswith(_ACCOUNT_PREFIX):
        subject = f"--serviceaccount={user.removeprefix(_ACCOUNT_PREFIX)}"
    return (
        f"kubectl -n {namespace} create role {role} --verb={','.join(verbs)} --resource={right.name} && "
        f"kubectl -n {namespace} create rolebinding {role} --role={role} {subject}"
    )
