"""What is known of one job while it runs: its state, why its pods wait, which rank failed first. No input or output."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from windlass.cluster._watch import Change
from windlass.cluster.jobs import DistributedJob
from windlass.cluster.kinds import PYTORCHJOB, JobKind, Resource
from windlass.cluster.pods import Ended, Waiting, ends, is_done, is_leaving, is_running, waiting
from windlass.cluster.status import JobReport, JobState, state_of

_REFUSALS = frozenset({"FailedCreate", "FailedCreatePod", "FailedCreateService", "JobCreationFailed"})
_POD_TROUBLES = frozenset({"FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox"})


@dataclass
class Tracker:
    """Takes changes as they are watched, and answers what they mean together."""

    kind: JobKind
    job: DistributedJob
    resource: Resource
    """The job as the API has it."""
    clock: Callable[[], float] = time.monotonic
    is_gone: bool = False
    pods: dict[str, Resource] = field(default_factory=dict)
    """By uid."""
    ended: list[Ended] = field(default_factory=list)
    """Every failure seen, in the order in which it was seen."""
    _has_run: bool = False
    """All pods ran at some time: what starts now starts again."""
    _keys: set[str] = field(default_factory=set)
    _refusal: tuple[str, float] | None = None
    """Why pods cannot be created, and since when."""
    _pulls: dict[str, tuple[Waiting, float]] = field(default_factory=dict)
    """Images that cannot be pulled, by pod, and since when."""
    _troubles: dict[str, str] = field(default_factory=dict)
    """What the kubelet says of pods that do not start, by name."""

    @property
    def state(self) -> JobState:
        return state_of(self.resource)

    @property
    def rank_0(self) -> Resource | None:
        """The newest pod of rank 0."""
        pods = [pod for pod in self.pods.values() if self.kind.rank(pod) == 0]
        return max(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), default=None)

    def take(self, change: Change) -> list[tuple[Resource, Ended]]:
        """Learn from a change; returns the failures that it brings to light, with their pods."""
        if change.source == "job":
            self._take_job(change)
        elif change.source == "event":
            self._take_event(change.resource)
        else:
            return self._take_pod(change)
        return []

    def _take_job(self, change: Change) -> None:
        if change.is_gone or change.resource["metadata"]["uid"] != self.resource["metadata"]["uid"]:
            self.is_gone = True
        else:
            self.resource = change.resource

    def _take_pod(self, change: Change) -> list[tuple[Resource, Ended]]:
        pod, uid = change.resource, change.resource["metadata"]["uid"]
        if not self.kind.owns(self.resource, pod):
            return []
        self.pods.pop(uid, None)
        if not change.is_gone:
            self.pods[uid] = pod
        self._note_pull(uid, None if change.is_gone else waiting(pod))
        if len(self._present()) >= self.job.workers:
            self._refusal = None
        self._has_run |= sum(self._running_and_done()) >= self.job.workers or self.restarts > 0
        new = [self._counted(each) for each in ends(self.kind, pod) if each.key not in self._keys]
        self._keys.update(each.key for each in new)
        self.ended.extend(new)
        return [(pod, each) for each in new]

    def _counted(self, ended: Ended) -> Ended:
        """With the attempts of its rank in pods that this one replaced: a batch Job makes a new pod for each."""
        before = sum(
            each.rank == ended.rank and each.pod != ended.pod for each in self.ended if each.exit_code is not None
        )
        return replace(ended, attempt=ended.attempt + before)

    def _note_pull(self, uid: str, now: Waiting | None) -> None:
        if now is None or now.cause != "image":
            self._pulls.pop(uid, None)
        else:
            since = self._pulls[uid][1] if uid in self._pulls else self.clock()
            self._pulls[uid] = (now, since)

    def _take_event(self, event: Resource) -> None:
        if _time(event) < str(self.resource["metadata"]["creationTimestamp"]):
            return  # of an earlier job of this name
        involved, reason, message = event["involvedObject"], event.get("reason"), event.get("message", "")
        if reason in _POD_TROUBLES and involved.get("kind") == "Pod":
            self._troubles[involved["name"]] = f"{reason}: {message}"
        elif reason in _REFUSALS and self.kind.involves(self.job.name, involved):
            since = self._refusal[1] if self._refusal else self.clock()
            if len(self._present()) < self.job.workers:
                self._refusal = (message.removeprefix("Error creating: "), since)

    def _present(self) -> list[Resource]:
        return [pod for pod in self.pods.values() if not is_leaving(pod)]

    def _running_and_done(self) -> tuple[int, int]:
        pods = self._present()
        return sum(map(is_running, pods)), sum(map(is_done, pods))

    @property
    def restarts(self) -> int:
        """How often the pods were started again, by the one that was most often; what its kubelet counts, not us."""
        counts = (status.get("restartCount", 0) for pod in self.pods.values() for status in _containers(pod))
        lost = sum(each.is_eviction for each in self.ended)
        return int(max(counts, default=0)) + lost

    @property
    def is_out_of_restarts(self) -> bool:
        """Some rank failed once more than it may be restarted; the operators count differently, over all pods."""
        return any(each.attempt >= self.job.restarts for each in self.ended if each.exit_code is not None)

    def first_failure(self) -> Ended | None:
        """Who failed first in the last attempt: in it fail all, one for a reason, the others for having lost it."""
        last = max((each.attempt for each in self.ended), default=0)
        return min((each for each in self.ended if each.attempt == last), key=lambda each: each.order, default=None)

    def restart_cause(self) -> Ended | None:
        """Who failed first in the last attempt that was followed by another; None where there was none."""
        before = [each for each in self.ended if each.attempt < self.restarts and not each.is_deadline]
        last = max((each.attempt for each in before), default=0)
        return min((each for each in before if each.attempt == last), key=lambda each: each.order, default=None)

    def stuck_pull(self, patience_s: float) -> tuple[str, Waiting] | None:
        """A pod, and what it says of its image, if that has been so for longer than `patience_s`."""
        for uid, (now, since) in self._pulls.items():
            if self.clock() - since >= patience_s:
                return str(self.pods[uid]["metadata"]["name"]), now
        return None

    def stuck_refusal(self, patience_s: float) -> str | None:
        """Why pods cannot be created, if that has been so for longer than `patience_s`."""
        if self._refusal and self.clock() - self._refusal[1] >= patience_s:
            return self._refusal[0]
        return None

    def next_check_s(self, patience_s: float) -> float | None:
        """When patience ends with what waits now; None where nothing does."""
        since = [began for _, began in self._pulls.values()] + ([self._refusal[1]] if self._refusal else [])
        return max(0.0, min(since) + patience_s - self.clock()) if since else None

    def report(self) -> JobReport:
        """The job's state in one line; equal as long as nothing has changed that a person would want to know."""
        state = self.state
        if state.is_final:
            return JobReport(state, f"{self.kind.name} {self.job.name} {state}")
        if state is JobState.SUSPENDED:
            return JobReport(state, "suspended: no pod runs until it is resumed")
        running, done = self._running_and_done()
        count = f"{running} of {self.job.workers} pods run" + (f", {done} done" if done else "")
        parts = [count, *self._reasons()]
        if self.restarts:
            parts.insert(0, self._restarted())
        if running + done >= self.job.workers:
            state = JobState.RUNNING
        else:
            state = JobState.RESTARTING if self._has_run else JobState.PENDING
        return JobReport(state, "; ".join(parts))

    def _restarted(self) -> str:
        allowed = f" of {self.job.restarts}" if self.kind is PYTORCHJOB else " time" + "s" * (self.restarts != 1)
        failed = self.first_failure()
        if failed is None:
            return f"restarted {self.restarts}{allowed}"
        how = failed.reason if failed.exit_code is None else f"exit code {failed.exit_code}"
        oom = ", out of memory" if failed.is_out_of_memory else ""
        return f"restarted {self.restarts}{allowed}: rank {failed.rank} ended with {how}{oom}"

    def _reasons(self) -> list[str]:
        reasons = [f"pods are refused: {self._refusal[0]}"] if self._refusal else []
        ranks_by_reason: dict[str, list[int]] = {}
        for pod in sorted(self._present(), key=self.kind.rank):
            if why := self._why_waiting(pod):
                ranks_by_reason.setdefault(why, []).append(self.kind.rank(pod))
        for why, ranks in ranks_by_reason.items():
            who = f"rank {ranks[0]} waits" if len(ranks) == 1 else f"ranks {', '.join(map(str, ranks))} wait"
            reasons.append(f"{who}: {why}")
        return reasons

    def _why_waiting(self, pod: Resource) -> str | None:
        if why := waiting(pod):
            return why.text
        return self._troubles.get(pod["metadata"]["name"]) if pod["status"].get("phase") == "Pending" else None


def _containers(pod: Resource) -> list[Resource]:
    return list(pod["status"].get("containerStatuses") or ())


def _time(event: Resource) -> str:
    stamp = event.get("lastTimestamp") or event.get("eventTime") or ""
    return str(stamp) or datetime.now(UTC).isoformat()
