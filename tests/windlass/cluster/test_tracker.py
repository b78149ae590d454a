"""What changes mean together: who failed first, why pods cannot be created, when patience ends."""

from __future__ import annotations

from typing import Any

from windlass.cluster._tracker import Tracker
from windlass.cluster._watch import Change, Source
from windlass.cluster.jobs import DistributedJob
from windlass.cluster.kinds import PYTORCHJOB
from windlass.cluster.status import JobState

JOB = DistributedJob(name="digits", namespace="ml", image="i:1", command=("train",), workers=2, restarts=1)
RESOURCE = {"metadata": {"uid": "j1", "name": "digits", "creationTimestamp": "2026-01-01T00:00:00Z"}, "status": {}}


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def _tracker(clock: Clock | None = None) -> Tracker:
    return Tracker(PYTORCHJOB, JOB, RESOURCE, clock=clock or Clock())


def _tell(tracker: Tracker, source: Source, resource: dict[str, Any], *, is_gone: bool = False) -> None:
    tracker.take(Change(source, resource, is_gone))


def _pod(rank: int, state: dict[str, Any], *, last: dict[str, Any] | None = None, owner: str = "j1") -> dict[str, Any]:
    container = {
        "name": "pytorch",
        "image": "i:1",
        "containerID": f"now-{rank}",
        "state": state,
        "lastState": {"terminated": last} if last else {},
        "restartCount": 1 if last else 0,
    }
    metadata = {
        "uid": f"p{rank}{owner}",
        "name": f"digits-worker-{rank}",
        "creationTimestamp": "2026-01-01T00:00:01Z",
        "labels": {PYTORCHJOB.rank_label: str(rank)},
        "ownerReferences": [{"kind": "PyTorchJob", "uid": owner}],
    }
    return {"metadata": metadata, "status": {"phase": "Running", "containerStatuses": [container]}}


def _ended(container_id: str, second: int, exit_code: int = 1, reason: str = "Error") -> dict[str, Any]:
    stamp = f"2026-01-01T00:00:{second:02}Z"
    return {
        "containerID": container_id,
        "exitCode": exit_code,
        "reason": reason,
        "startedAt": stamp,
        "finishedAt": stamp,
    }


def _event(reason: str, message: str, time: str = "2026-01-01T00:00:05Z") -> dict[str, Any]:
    involved = {"kind": "PyTorchJob", "name": "digits"}
    return {
        "metadata": {"uid": "e"},
        "reason": reason,
        "message": message,
        "involvedObject": involved,
        "lastTimestamp": time,
    }


def test_the_first_to_fail_in_the_last_attempt_is_the_one_to_blame() -> None:
    tracker = _tracker()
    _tell(tracker, "pod", _pod(0, {"terminated": _ended("b0", 9)}, last=_ended("a0", 3)))
    _tell(tracker, "pod", _pod(1, {"terminated": _ended("b1", 8, exit_code=7)}, last=_ended("a1", 4)))
    first = tracker.first_failure()
    assert first is not None
    assert (first.rank, first.exit_code) == (1, 7)
    assert tracker.is_out_of_restarts


def test_of_two_that_failed_in_the_same_second_the_one_without_memory_is_to_blame() -> None:
    tracker = _tracker()
    _tell(tracker, "pod", _pod(0, {"terminated": _ended("a0", 3)}))
    _tell(tracker, "pod", _pod(1, {"terminated": _ended("a1", 3, exit_code=1, reason="OOMKilled")}))
    first = tracker.first_failure()
    assert first is not None
    assert first.is_out_of_memory


def test_a_failure_is_reported_once_however_often_its_pod_changes() -> None:
    tracker = _tracker()
    pod = _pod(1, {"running": {}}, last=_ended("a1", 3))
    assert len(tracker.take(Change("pod", pod, is_gone=False))) == 1
    assert tracker.take(Change("pod", pod, is_gone=False)) == []
    assert not tracker.is_out_of_restarts


def test_attempts_go_on_in_the_pods_that_replace_failed_ones() -> None:
    tracker = _tracker()
    for number in (1, 2):
        pod = _pod(1, {"terminated": _ended(f"a{number}", number, exit_code=number)})
        pod["metadata"] |= {"uid": f"u{number}", "name": f"digits-{number}"}
        _tell(tracker, "pod", pod)
    first = tracker.first_failure()
    assert first is not None
    assert (first.attempt, first.exit_code) == (1, 2)
    assert tracker.is_out_of_restarts


def test_a_restart_is_counted_and_explained() -> None:
    tracker = _tracker()
    _tell(tracker, "pod", _pod(0, {"running": {}}))
    _tell(tracker, "pod", _pod(1, {"running": {}}, last=_ended("a1", 3, exit_code=9)))
    report = tracker.report()
    assert report.state is JobState.RUNNING
    assert report.text == "restarted 1 of 1: rank 1 ended with exit code 9; 2 of 2 pods run"


def test_the_cause_of_a_restart_is_the_attempt_before_it_and_not_what_ends_the_job() -> None:
    tracker = _tracker()
    _tell(tracker, "pod", _pod(0, {"running": {}}))
    assert tracker.restart_cause() is None
    _tell(tracker, "pod", _pod(0, {"terminated": _ended("b0", 9, exit_code=143)}, last=_ended("a0", 4)))
    _tell(tracker, "pod", _pod(1, {"terminated": _ended("b1", 9, exit_code=143)}, last=_ended("a1", 3, exit_code=129)))
    cause = tracker.restart_cause()
    assert cause is not None
    assert (cause.rank, cause.exit_code) == (1, 129)


def test_a_pod_of_an_earlier_job_of_this_name_is_no_pod_of_it() -> None:
    tracker = _tracker()
    _tell(tracker, "pod", _pod(0, {"running": {}}, owner="j0"))
    assert tracker.rank_0 is None
    assert tracker.report().text == "0 of 2 pods run"


def test_pods_that_wait_for_the_same_reason_are_named_together() -> None:
    tracker = _tracker()
    for rank in (1, 0):
        pod = _pod(rank, {"waiting": {"reason": "ErrImagePull", "message": "not found"}})
        pod["status"]["phase"] = "Pending"
        _tell(tracker, "pod", pod)
    assert tracker.report().text == "0 of 2 pods run; ranks 0, 1 wait: image i:1 cannot be pulled: not found"


def test_a_refusal_is_an_error_when_patience_ends_and_not_before() -> None:
    clock = Clock()
    tracker = _tracker(clock)
    _tell(tracker, "event", _event("FailedCreatePod", "Error creating: exceeded quota"))
    clock.now_s = 9.0
    assert tracker.stuck_refusal(10.0) is None
    assert tracker.next_check_s(10.0) == 1.0
    clock.now_s = 10.0
    assert tracker.stuck_refusal(10.0) == "exceeded quota"


def test_a_refusal_is_forgotten_when_all_pods_are_there() -> None:
    tracker = _tracker()
    _tell(tracker, "event", _event("FailedCreatePod", "exceeded quota"))
    for rank in (0, 1):
        _tell(tracker, "pod", _pod(rank, {"running": {}}))
    assert tracker.stuck_refusal(0.0) is None
    assert tracker.next_check_s(10.0) is None


def test_an_event_of_an_earlier_job_of_this_name_means_nothing() -> None:
    tracker = _tracker()
    _tell(tracker, "event", _event("FailedCreatePod", "exceeded quota", time="2025-12-31T23:59:59Z"))
    assert tracker.stuck_refusal(0.0) is None


def test_a_job_that_was_replaced_by_another_of_its_name_is_gone() -> None:
    tracker = _tracker()
    other = {"metadata": {"uid": "j2", "name": "digits", "creationTimestamp": "2026-01-01T00:01:00Z"}}
    _tell(tracker, "job", other)
    assert tracker.is_gone
