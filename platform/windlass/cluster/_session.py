"""One launcher at one job, from its creation or adoption to its end."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from typing import NoReturn

from windlass.cluster._logs import LogEnd, LogFollower, LogLine
from windlass.cluster._rest import Rest
from windlass.cluster._tail import log_tail
from windlass.cluster._tracker import Tracker
from windlass.cluster._watch import Change, Listed, Watch
from windlass.cluster.errors import (
    DeadlineExceededError,
    EvictedError,
    ImagePullError,
    JobError,
    JobGoneError,
    JobRefusedError,
    OutOfMemoryError,
    PodFailedError,
    PodFailure,
)
from windlass.cluster.jobs import DistributedJob
from windlass.cluster.kinds import JobKind, Resource
from windlass.cluster.pods import Ended
from windlass.cluster.status import JobReport, JobState, condition_of, is_past_deadline
from windlass.errors import WindlassError

_SETTLE_S = 2.0
"""After the news that a rank failed, the kubelet's news of another that failed before it may still be on their way."""
_LAST_LINES_S = 15.0
"""How long the rest of the log may take after the job's end."""
_STOP_S = 0.5
"""A thread that is cut off ends at once; one that waits for an API server that is away is left behind."""
_INBOX_SIZE = 10_000

News = Change | Listed | LogLine | LogEnd | WindlassError


class Session:
    """Watches a job, its pods and their events, and follows its log. All callbacks run in the caller's thread."""

    def __init__(
        self,
        rest: Rest,
        kind: JobKind,
        job: DistributedJob,
        resource: Resource,
        *,
        patience_s: float,
        on_log: Callable[[str], object],
        on_state: Callable[[JobReport], object],
    ) -> None:
        self._rest, self._kind, self._job, self._patience_s = rest, kind, job, patience_s
        self._on_log, self._on_state = on_log, on_state
        self._tracker = Tracker(kind, job, resource)
        self._tails: dict[str, str] = {}
        self._reported: JobReport | None = None
        self._is_open = True
        self._are_pods_known = False
        self._has_log_ended = False
        self._inbox: queue.Queue[News] = queue.Queue(_INBOX_SIZE)
        self._log = LogFollower(rest, kind.container, self._put)
        self._threads: tuple[Watch | LogFollower, ...] = (*self._make_watches(), self._log)

    def _make_watches(self) -> list[Watch]:
        namespace, name = self._job.namespace, self._job.name
        core = f"/api/v1/namespaces/{namespace}"
        this_job = {"fieldSelector": f"metadata.name={name}"}
        its_pods = {"labelSelector": f"{self._kind.job_label}={name}"}
        return [
            Watch(self._rest, "job", self._kind.path(namespace), this_job, self._put),
            Watch(self._rest, "pod", f"{core}/pods", its_pods, self._put),
            Watch(self._rest, "event", f"{core}/events", {"fieldSelector": "type=Warning"}, self._put),
        ]

    def _put(self, news: News) -> None:
        while self._is_open:
            try:
                self._inbox.put(news, timeout=1.0)
            except queue.Full:
                continue
            return

    def follow(self) -> None:
        """Return when the job has succeeded and its last line was shown.

        Raises:
            JobError: it did not succeed; the subclass says why.
            ApiError: this identity may not watch jobs, pods or events.
        """
        for thread in self._threads:
            thread.start()
        try:
            self._report()
            while not self._is_over():
                self._take(self._tracker.next_check_s(self._patience_s))
            self._finish_log()
        finally:
            self.close()

    def close(self) -> None:
        """End all threads; what still comes is dropped."""
        self._is_open = False
        for thread in self._threads:
            if thread.is_alive():
                thread.stop()
                thread.join(_STOP_S)

    def _take(self, timeout_s: float | None) -> None:
        """Wait for one piece of news, not longer than `timeout_s`, and act on it."""
        try:
            news = self._inbox.get(timeout=timeout_s)
        except queue.Empty:
            return
        if isinstance(news, LogLine):
            self._on_log(news.text)
        elif isinstance(news, LogEnd):
            self._has_log_ended = True
        elif isinstance(news, Listed):
            self._are_pods_known |= news.source == "pod"
        elif isinstance(news, WindlassError):
            raise news
        else:
            self._take_change(news)

    def _take_change(self, change: Change) -> None:
        for pod, ended in self._tracker.take(change):
            # At once: the operators delete pods, and the kubelet all logs but the last two, soon after.
            self._tails[ended.key] = log_tail(self._rest, pod, self._kind.container, ended)
        if change.source == "pod" and self._kind.rank(change.resource) == 0:
            self._log.update(self._tracker.rank_0)
        self._report()

    def _report(self) -> None:
        report = self._tracker.report()
        if report != self._reported:
            self._reported = report
            self._on_state(report)

    def _is_over(self) -> bool:
        tracker = self._tracker
        if tracker.is_gone:
            raise JobGoneError(self._job.name)
        if tracker.state is JobState.SUCCEEDED:
            return True
        if tracker.state is JobState.FAILED:
            if is_past_deadline(tracker.resource) or any(each.is_deadline for each in tracker.ended):
                before = tracker.restart_cause()
                failure = None if before is None else self._failure(before)
                raise DeadlineExceededError(self._job.name, self._job.deadline_s, failure)
            self._settle()
            raise self._failed()
        if tracker.is_out_of_restarts:
            self._settle()
            self._give_up(self._failed())
        if pull := tracker.stuck_pull(self._patience_s):
            pod, why = pull
            self._give_up(ImagePullError(self._job.name, why.image, pod, why.detail))
        if refusal := tracker.stuck_refusal(self._patience_s):
            self._give_up(JobRefusedError(self._job.name, refusal))
        return False

    def _settle(self) -> None:
        until = time.monotonic() + _SETTLE_S
        while (left_s := until - time.monotonic()) > 0:
            self._take(left_s)
        self._log.finish()
        while not self._inbox.empty():
            self._take(0)

    def _give_up(self, error: JobError) -> NoReturn:
        """End a job that the cluster would go on trying; one that it has given up itself stays to be looked at."""
        if not self._tracker.state.is_final:
            path = self._kind.path(self._job.namespace, self._job.name)
            self._rest.delete(path, "Background", self._tracker.resource["metadata"]["uid"])
        raise error

    def _failed(self) -> JobError:
        name, tracker = self._job.name, self._tracker
        ended = tracker.first_failure()
        if ended is None:
            condition = condition_of(tracker.resource, "Failed") or {}
            return JobError(
                name, condition.get("message") or "it failed, and its pods were gone before they could be read"
            )
        failure = self._failure(ended)
        if ended.is_out_of_memory:
            return OutOfMemoryError(name, failure, ended.attempt, self._job.resources.memory)
        error = EvictedError if ended.is_eviction else PodFailedError
        return error(name, failure, ended.attempt)

    def _failure(self, ended: Ended) -> PodFailure:
        return PodFailure(
            pod=ended.pod,
            rank=ended.rank,
            reason=ended.reason,
            exit_code=ended.exit_code,
            message=ended.message,
            log_tail=self._tails.get(ended.key, ""),
        )

    def _finish_log(self) -> None:
        until = time.monotonic() + _LAST_LINES_S
        while not self._are_pods_known and (left_s := until - time.monotonic()) > 0:
            self._take(left_s)
        self._log.finish()
        while not self._has_log_ended and (left_s := until - time.monotonic()) > 0:
            self._take(left_s)
