"""What can go wrong with a distributed job. Each error carries what the cluster said and says what to change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from windlass.errors import InterruptedRunError, InvalidInputError, WindlassError


@dataclass(frozen=True)
class PodFailure:
    """How one pod of a job ended: the first one to fail, where several did."""

    pod: str
    rank: int
    reason: str
    """As the kubelet names it: `Error`, `OOMKilled`, `Evicted`, `DeadlineExceeded`, …"""
    exit_code: int | None
    """None where no container ended, as in an eviction."""
    message: str
    log_tail: str
    """The traceback if there is one, else the last lines."""


class InvalidJobError(InvalidInputError):
    """A job is described in a way that no cluster can run."""

    def __init__(self, name: str, problems: Sequence[str]) -> None:
        super().__init__(f"job {name!r}: " + "; ".join(problems))
        self.name, self.problems = name, tuple(problems)


class UnsupportedSettingError(InvalidInputError):
    """The operator of this cluster has no place for a setting of the job; nothing was created."""

    def __init__(self, kind: str, settings: Sequence[str], advice: str) -> None:
        super().__init__(f"a {kind} cannot set {', '.join(settings)}: {advice}")
        self.kind, self.settings = kind, tuple(settings)


class NoOperatorError(WindlassError):
    """The cluster knows neither kind of job, or not the one that was asked for."""

    def __init__(self, wanted: Sequence[str]) -> None:
        super().__init__(
            f"the cluster has no {' or '.join(wanted)}: install Kubeflow's Training Operator (PyTorchJob) or Trainer "
            "(TrainJob)"
        )
        self.wanted = tuple(wanted)


class JobError(WindlassError):
    """A distributed job did not come to its end."""

    def __init__(self, job: str, message: str) -> None:
        super().__init__(f"job {job}: {message}")
        self.job = job


class JobRefusedError(JobError):
    """The API server, an admission policy or a quota does not let the job or its pods be created."""

    def __init__(self, job: str, reason: str) -> None:
        super().__init__(job, f"the cluster refuses it: {reason}")
        self.reason = reason


class ImagePullError(JobError):
    """An image could not be pulled for longer than the launcher's patience."""

    def __init__(self, job: str, image: str, pod: str, reason: str) -> None:
        super().__init__(
            job,
            f"image {image} cannot be pulled for pod {pod}: {reason}; check its name and tag, and image_pull_secrets "
            "if the registry needs a login",
        )
        self.image, self.pod, self.reason = image, pod, reason


class PodFailedError(JobError):
    """A pod failed more often than it may be restarted; `failure` is the first one to fail in the last attempt."""

    def __init__(self, job: str, failure: PodFailure, restarts: int) -> None:
        code = "" if failure.exit_code is None else f" with exit code {failure.exit_code}"
        again = f", after {restarts} restart{'' if restarts == 1 else 's'}" if restarts else ""
        super().__init__(job, f"rank {failure.rank} (pod {failure.pod}) failed{code}{again}{self._what(failure)}")
        self.failure, self.restarts = failure, restarts

    def _what(self, failure: PodFailure) -> str:
        said = f": {failure.reason}: {failure.message}" if failure.message else ""
        return said + (f"\n{failure.log_tail}" if failure.log_tail else "")


class OutOfMemoryError(PodFailedError):
    """A pod went over its memory limit and the kernel killed one of its processes."""

    def __init__(self, job: str, failure: PodFailure, restarts: int, limit: str) -> None:
        self.limit = limit
        super().__init__(job, failure, restarts)

    def _what(self, failure: PodFailure) -> str:
        advice = (
            f": out of memory: its limit is {self.limit} for all processes of the pod; raise resources.memory, or use "
            "a smaller batch or fewer processes per worker"
        )
        return advice + (f"\n{failure.log_tail}" if failure.log_tail else "")


class EvictedError(PodFailedError):
    """The node threw a pod out, mostly because its disk or memory ran short, or it was drained or preempted."""

    def _what(self, failure: PodFailure) -> str:
        return f": evicted: {failure.message or failure.reason}; run it again, or ask for the resources that it uses"


class DeadlineExceededError(JobError):
    """The job was active for longer than its deadline; the cluster ended it.

    `failure` is why its pods had to be started again before, if they had: it may be what took the time.
    """

    def __init__(self, job: str, deadline_s: int | None, failure: PodFailure | None = None) -> None:
        limit = "its deadline" if deadline_s is None else f"its deadline of {deadline_s} s"
        before = ""
        if failure is not None:
            said = f": {failure.message}" if failure.message else ""
            before = f"; before, rank {failure.rank} (pod {failure.pod}) had failed{said}"
        super().__init__(job, f"ended by the cluster after {limit}; raise deadline_s, or use more workers{before}")
        self.deadline_s, self.failure = deadline_s, failure


class JobGoneError(JobError):
    """Somebody else deleted or replaced the job while it ran."""

    def __init__(self, job: str) -> None:
        super().__init__(job, "it was deleted while it ran; run it again to start anew")


class LaunchInterruptedError(InterruptedRunError):
    """A signal asked the launcher to stop; the job and its pods were deleted first."""

    def __init__(self, job: str, signal_name: str, deleted: bool) -> None:
        ending = (
            "the job and its pods are deleted"
            if deleted
            else ("the job could NOT be deleted, its deadline or owner ends it: kubectl delete it by hand")
        )
        super().__init__(f"job {job}: stopped by {signal_name}; {ending}")
        self.job, self.signal_name, self.deleted = job, signal_name, deleted


class ApiError(WindlassError):
    """The API server refuses a request."""

    def __init__(self, method: str, path: str, status: int, message: str) -> None:
        advice = "; grant the verb to this identity in a Role" if status == 403 else ""
        super().__init__(f"the cluster refuses {method} {path} ({status}): {message}{advice}")
        self.method, self.path, self.status, self.message = method, path, status, message


class ClusterUnreachableError(WindlassError):
    """The API server gave no answer for too long; what runs in the cluster goes on."""

    def __init__(self, host: str, reason: str) -> None:
        super().__init__(
            f"the cluster at {host} does not answer: {reason}; the same command goes on with what runs there"
        )
        self.host, self.reason = host, reason
