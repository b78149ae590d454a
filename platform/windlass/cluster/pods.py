"""What a pod's status says: why it waits, how its container ended. Pure functions over the API's JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from windlass.cluster.kinds import JobKind, Resource

_PULL_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_EVICTIONS = frozenset({"Evicted", "NodeShutdown", "Terminated", "Preempting", "UnexpectedAdmissionError", "NodeLost"})
_POD_ENDS = _EVICTIONS | {"DeadlineExceeded"}


@dataclass(frozen=True)
class ContainerRun:
    """One start of a container, until its end."""

    container_id: str
    is_ended: bool
    is_previous: bool
    """A later run has begun."""


@dataclass(frozen=True)
class Waiting:
    """Why a pod does not run yet."""

    cause: Literal["image", "other"]
    text: str
    image: str = ""
    detail: str = ""
    """Of an image: what the registry or the container runtime says."""


@dataclass(frozen=True)
class Ended:
    """A container, or a whole pod, that ended before its time."""

    key: str
    """Of this end, the same in every later report of the pod."""
    pod: str
    rank: int
    reason: str
    exit_code: int | None
    message: str
    started_at: str
    finished_at: str
    attempt: int
    """Ends of the same pod before this one."""

    @property
    def is_out_of_memory(self) -> bool:
        return self.reason == "OOMKilled"

    @property
    def is_deadline(self) -> bool:
        return self.reason == "DeadlineExceeded"

    @property
    def is_eviction(self) -> bool:
        return self.reason in _EVICTIONS

    @property
    def order(self) -> tuple[str, bool, int]:
        """Who was first: by the second, then whoever was killed for memory, then by rank."""
        return self.finished_at, not self.is_out_of_memory, self.rank


def log_path(pod: Resource) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}/log"


def is_running(pod: Resource) -> bool:
    statuses = pod["status"].get("containerStatuses") or ()
    return bool(statuses) and all("running" in status["state"] for status in statuses)


def is_done(pod: Resource) -> bool:
    """All of its containers have ended well; the pod's phase says so a moment later."""
    statuses = pod["status"].get("containerStatuses") or ()
    return bool(statuses) and all(status["state"].get("terminated", {}).get("exitCode") == 0 for status in statuses)


def is_leaving(pod: Resource) -> bool:
    """It was deleted, by its operator or by somebody, and has not gone yet."""
    return "deletionTimestamp" in pod["metadata"]


def container_runs(pod: Resource, container: str) -> tuple[ContainerRun, ...]:
    """The runs whose logs the kubelet still has, oldest first: the previous one and the present one."""
    runs = []
    for status in pod["status"].get("containerStatuses") or ():
        if status["name"] != container:
            continue
        present = "running" in status["state"] or "terminated" in status["state"]
        before = status.get("lastState", {}).get("terminated", {}).get("containerID")
        now = status.get("containerID") if present else None
        if before and before != now:
            # Between two runs the last one is still the one that the log is read of.
            runs.append(ContainerRun(before, is_ended=True, is_previous=now is not None))
        if now:
            runs.append(ContainerRun(now, is_ended="terminated" in status["state"], is_previous=False))
    return tuple(runs)


def ends(kind: JobKind, pod: Resource) -> Iterator[Ended]:
    """How this pod failed, oldest first; nothing for what ended well or was stopped because the pod is deleted."""
    status = pod["status"]
    if status.get("phase") == "Failed" and status.get("reason") in _POD_ENDS:
        yield _pod_end(kind, pod)
        return
    for container in status.get("containerStatuses") or ():
        if container["name"] != kind.container:
            continue
        restarts = container.get("restartCount", 0)
        previous = container.get("lastState", {}).get("terminated")
        present = container["state"].get("terminated")
        if present and previous and present.get("containerID") == previous.get("containerID"):
            previous = None
        before_present = restarts if present else restarts - 1
        for terminated, attempt in ((previous, restarts - 1), (present, before_present)):
            if terminated and terminated["exitCode"] != 0 and (terminated is previous or not is_leaving(pod)):
                yield _container_end(kind, pod, terminated, attempt)


def _pod_end(kind: JobKind, pod: Resource) -> Ended:
    """Of the whole pod: its containers were killed for it, and their exit codes mean nothing."""
    conditions = pod["status"].get("conditions") or ()
    return Ended(
        key=pod["metadata"]["uid"],
        pod=pod["metadata"]["name"],
        rank=kind.rank(pod),
        reason=pod["status"]["reason"],
        exit_code=None,
        message=pod["status"].get("message", ""),
        started_at=pod["status"].get("startTime", ""),
        finished_at=max((each.get("lastTransitionTime") or "" for each in conditions), default=""),
        attempt=0,
    )


def _container_end(kind: JobKind, pod: Resource, terminated: Resource, attempt: int) -> Ended:
    return Ended(
        key=terminated.get("containerID") or f"{pod['metadata']['uid']}/{attempt}",
        pod=pod["metadata"]["name"],
        rank=kind.rank(pod),
        reason=terminated.get("reason", "Error"),
        exit_code=terminated["exitCode"],
        message=(terminated.get("message") or "").strip(),
        started_at=terminated.get("startedAt") or "",
        finished_at=terminated.get("finishedAt") or "",
        attempt=attempt,
    )


def waiting(pod: Resource) -> Waiting | None:
    """Why the pod's containers are not started; None where they are, or nothing is known yet."""
    status = pod["status"]
    if status.get("phase") != "Pending":
        return _container_waiting(pod)
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return Waiting("other", f"{condition.get('reason', 'unscheduled').lower()}: {condition.get('message', '')}")
    return _init_waiting(pod) or _container_waiting(pod)


def _init_waiting(pod: Resource) -> Waiting | None:
    for status in pod["status"].get("initContainerStatuses") or ():
        state = status["state"]
        if "running" in state:
            return Waiting("other", f"init container {status['name']} runs")
        if "waiting" in state and state["waiting"].get("reason") != "PodInitializing":
            return _waiting(status, f"init container {status['name']}: ")
        if state.get("terminated", {}).get("exitCode"):
            return Waiting(
                "other", f"init container {status['name']} failed with exit code {state['terminated']['exitCode']}"
            )
    return None


def _container_waiting(pod: Resource) -> Waiting | None:
    for status in pod["status"].get("containerStatuses") or ():
        state = status["state"].get("waiting", {})
        if state.get("reason") == "CrashLoopBackOff":
            return Waiting("other", "waits before it is started again")
        if state and state.get("reason") not in ("ContainerCreating", "PodInitializing"):
            return _waiting(status, "")
    return None


def _waiting(status: Resource, prefix: str) -> Waiting:
    state = status["state"]["waiting"]
    reason, message = state.get("reason", ""), state.get("message", "")
    if reason in _PULL_REASONS:
        # The kubelet changes between the error and its back-off, which repeats the error: one text for both.
        cause = message.rsplit("ErrImagePull: ", 1)[-1]
        return Waiting("image", f"{prefix}image {status['image']} cannot be pulled: {cause}", status["image"], cause)
    return Waiting("other", f"{prefix}{reason}: {message}".rstrip(": "))
