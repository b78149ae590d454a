"""Whether there is room for a run: GPUs, nodes, quotas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from windlass.cluster._checks_finding import FORBIDDEN, Finding
from windlass.cluster._rest import Rest
from windlass.cluster.errors import ApiError
from windlass.cluster.jobs import GPU_RESOURCE
from windlass.cluster.kinds import Resource

_QUOTA_NAMES = {"cpu": "requests.cpu", "memory": "requests.memory"}
"""Two names for one thing."""
_NODES_SHOWN = 5


@dataclass(frozen=True)
class _Room:
    """What a node has left, in cores and bytes."""

    node: str
    cpu: Decimal
    memory: Decimal

    def __str__(self) -> str:
        return f"{self.node} has {self.cpu:.2f} cores and {self.memory / 10**9:.1f} GB"


def check_nodes(rest: Rest, pods: Sequence[tuple[str, str]]) -> Finding:
    """Whether the nodes have room now for these pods at once, by what the pods on them ask for.

    Args:
        pods: the cores and the memory that each asks for, as Kubernetes writes quantities.
    """
    from kubernetes.utils.quantity import parse_quantity

    try:
        rooms = list(_rooms(rest))
    except ApiError as error:
        if error.status != FORBIDDEN:
            raise
        unseen = "could not be checked: you may not list nodes and all pods"
        return Finding("nodes", "warning", unseen, "nothing, if the pods of runs do not wait")
    if not rooms:
        return Finding("nodes", "problem", "no node takes pods without a toleration", "kubectl describe nodes")
    found = "; ".join(map(str, rooms[:_NODES_SHOWN])) + " left"
    asked = [(parse_quantity(cpu), parse_quantity(memory)) for cpu, memory in pods]
    if _fit(rooms, asked):
        return Finding("nodes", "ok", found)
    needs = ", ".join(f"{cpu:g} cores and {memory / 10**9:.1f} GB" for cpu, memory in asked)
    return Finding(
        "nodes",
        "warning",
        f"pods of a default run ask for {needs} at once and would wait: {found}",
        "windlass run … --set resources.cluster.worker.cpu=0.25, or another node (kubectl describe nodes)",
    )


def _fit(rooms: Sequence[_Room], pods: Sequence[tuple[Decimal, Decimal]]) -> bool:
    """The largest first, each where most is left."""
    left = [[room.cpu, room.memory] for room in rooms]
    for cpu, memory in sorted(pods, reverse=True):
        room = max(left, key=lambda each: (each[1] >= memory, each[0]))
        room[0], room[1] = room[0] - cpu, room[1] - memory
        if min(room) < 0:
            return False
    return True


def _rooms(rest: Rest) -> Iterator[_Room]:
    """Of each node that takes pods without a toleration."""
    from kubernetes.utils.quantity import parse_quantity

    running = {"fieldSelector": "status.phase!=Succeeded,status.phase!=Failed"}
    pods = rest.get("/api/v1/pods", running)["items"]
    for node in rest.get("/api/v1/nodes")["items"]:
        if any(taint["effect"] == "NoSchedule" for taint in node["spec"].get("taints") or ()):
            continue
        name, left = node["metadata"]["name"], node["status"]["allocatable"]
        asked = [_requests(pod) for pod in pods if pod["spec"].get("nodeName") == name]
        cpu, memory = (
            parse_quantity(left[resource]) - sum(each[resource] for each in asked) for resource in ("cpu", "memory")
        )
        yield _Room(name, cpu, memory)


def _requests(pod: Resource) -> dict[str, Decimal]:
    """Of its containers together; those that only initialize it are done."""
    from kubernetes.utils.quantity import parse_quantity

    asked = [(each.get("resources") or {}).get("requests") or {} for each in pod["spec"]["containers"]]
    return {
        resource: sum((parse_quantity(each.get(resource, "0")) for each in asked), Decimal(0))
        for resource in ("cpu", "memory")
    }


def check_gpus(rest: Rest) -> Finding:
    """How many GPUs each node can give, for information."""
    try:
        nodes = rest.get("/api/v1/nodes")["items"]
    except ApiError as error:
        if error.status != FORBIDDEN:
            raise
        return Finding("gpus", "ok", "not known: you may not list nodes")
    counts = {
        node["metadata"]["name"]: int(node["status"].get("allocatable", {}).get(GPU_RESOURCE, 0)) for node in nodes
    }
    with_gpus = [f"{name} {count}" for name, count in counts.items() if count]
    found = ", ".join(with_gpus) if with_gpus else f"none on {len(counts)} node{'' if len(counts) == 1 else 's'}"
    return Finding("gpus", "ok", found)


def check_quota(rest: Rest, namespace: str, needs: Mapping[str, str]) -> list[Finding]:
    """Whether the ResourceQuotas of the namespace leave room.

    Args:
        needs: what a run asks for at once, by the names that quotas use: `requests.cpu`, `requests.memory`,
            `limits.memory`, `requests.nvidia.com/gpu`, `pods`, …
    """
    try:
        quotas = rest.get(f"/api/v1/namespaces/{namespace}/resourcequotas")["items"]
    except ApiError as error:
        if error.status != FORBIDDEN:
            raise
        unseen = "could not be checked: you may not list resourcequotas"
        return [Finding("quota", "warning", unseen, f"kubectl -n {namespace} describe resourcequotas, by who may")]
    # One with scopes counts only some pods, which may not be ours.
    counting = [quota for quota in quotas if not (quota["spec"].get("scopes") or quota["spec"].get("scopeSelector"))]
    short = [finding for quota in counting for finding in _check_one_quota(quota, needs)]
    if short:
        return short
    names = ", ".join(str(quota["metadata"]["name"]) for quota in counting)
    return [Finding("quota", "ok", f"{names}: room for a default run" if names else "none")]


def _check_one_quota(quota: Mapping[str, Any], needs: Mapping[str, str]) -> list[Finding]:
    from kubernetes.utils.quantity import parse_quantity

    name, namespace = quota["metadata"]["name"], quota["metadata"]["namespace"]
    hard, used = quota["spec"].get("hard") or {}, (quota.get("status") or {}).get("used") or {}
    findings = []
    for written, limit in hard.items():
        resource = _QUOTA_NAMES.get(written, written)
        if resource == "limits.cpu":
            found = f"{name} limits limits.cpu, which our pods do not set: they are refused unless a LimitRange sets it"
            action = f"kubectl -n {namespace} edit resourcequota {name}; take limits.cpu out"
            findings.append(Finding("quota", "warning", found, action))
        if resource not in needs:
            continue
        need, most, taken = (parse_quantity(each) for each in (needs[resource], limit, used.get(written, "0")))
        if most - taken >= need:
            continue
        found = f"{name} leaves {_written(most - taken)} of {limit} {written}, a default run asks for {needs[resource]}"
        enough = f'{{"spec":{{"hard":{{"{written}":"{_written(taken + need)}"}}}}}}'
        action = f"kubectl -n {namespace} patch resourcequota {name} --type merge -p '{enough}'"
        findings.append(Finding("quota", "problem" if most < need else "warning", found, action))
    return findings


def _written(quantity: Decimal) -> str:
    """As people read it, millions rounded up: 1500M rather than 1.5E+9."""
    if quantity >= 10**6 and quantity == quantity.to_integral_value():
        return f"{-(-quantity // 10**6):.0f}M"
    return f"{quantity.normalize():f}"
