"""One small enum for the states of both kinds of job, and the map to it from what their operators write."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from windlass.cluster.kinds import Resource


class JobState(StrEnum):
    """Where a job stands."""

    PENDING = "pending"
    """Created or queued; not all of its pods run yet."""
    RUNNING = "running"
    RESTARTING = "restarting"
    """A pod ended before its time and is started again."""
    SUSPENDED = "suspended"
    SUCCEEDED = "succeeded"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        return self in (JobState.SUCCEEDED, JobState.FAILED)


@dataclass(frozen=True)
class JobReport:
    """What `on_state` gets, once per change."""

    state: JobState
    text: str
    """One line for people: how many pods run, why others wait, which restart it is."""


_CONDITIONS = (
    # (of PyTorchJob, of TrainJob): whichever holds first decides.
    (("Succeeded", "Complete"), JobState.SUCCEEDED),
    (("Failed",), JobState.FAILED),
    (("Suspended",), JobState.SUSPENDED),
    (("Restarting",), JobState.RESTARTING),
    (("Running",), JobState.RUNNING),
)


def state_of(resource: Resource) -> JobState:
    """The state of a PyTorchJob or TrainJob by its conditions; their names do not clash, so one map serves both."""
    status = resource.get("status") or {}
    held = {condition["type"] for condition in status.get("conditions") or () if condition["status"] == "True"}
    for types, state in _CONDITIONS:
        if not held.isdisjoint(types):
            return state
    # A TrainJob has no condition for running, it counts the pods of its parts; a Job counts its own.
    running = any(part.get("active") and part.get("ready") for part in [status, *(status.get("jobsStatus") or ())])
    return JobState.RUNNING if running else JobState.PENDING


def condition_of(resource: Resource, kind: str) -> Resource | None:
    """The condition `kind`, if it holds: its `reason` and `message` say why."""
    conditions = (resource.get("status") or {}).get("conditions") or ()
    return next((each for each in conditions if each["type"] == kind and each["status"] == "True"), None)


def is_past_deadline(resource: Resource) -> bool:
    """Whether a failed job was ended by its `activeDeadlineSeconds`."""
    failed = condition_of(resource, "Failed") or {}
    return failed.get("reason") == "DeadlineExceeded" or "longer than specified deadline" in failed.get("message", "")
