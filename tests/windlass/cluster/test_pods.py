"""What the status of a pod means: why it waits, how it ended."""

from __future__ import annotations

from typing import Any

import pytest

from windlass.cluster.kinds import PYTORCHJOB
from windlass.cluster.pods import container_runs, ends, is_done, is_running, waiting


def _pod(phase: str = "Running", *, leaving: bool = False, **status: Any) -> dict[str, Any]:
    metadata = {"name": "job-worker-1", "namespace": "ml", "uid": "u1", "labels": {PYTORCHJOB.rank_label: "1"}}
    return {
        "metadata": metadata | ({"deletionTimestamp": "2026-01-01T00:00:09Z"} if leaving else {}),
        "status": {"phase": phase, **status},
    }


def _container(state: dict[str, Any], last: dict[str, Any] | None = None, restarts: int = 0) -> list[dict[str, Any]]:
    identity = (state.get("running") or state.get("terminated") or last or {}).get("containerID", "c9")
    last_state = {"terminated": last} if last else {}
    return [
        {
            "name": "pytorch",
            "image": "i:1",
            "containerID": identity,
            "state": state,
            "lastState": last_state,
            "restartCount": restarts,
        }
    ]


def _terminated(container_id: str, exit_code: int = 1, reason: str = "Error") -> dict[str, Any]:
    return {
        "containerID": container_id,
        "exitCode": exit_code,
        "reason": reason,
        "startedAt": "2026-01-01T00:00:01Z",
        "finishedAt": "2026-01-01T00:00:02Z",
    }


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("ErrImagePull", "not found"),
        ("ImagePullBackOff", 'Back-off pulling image "i:1": ErrImagePull: not found'),
    ],
)
def test_an_image_error_and_its_back_off_read_the_same(reason: str, message: str) -> None:
    why = waiting(_pod("Pending", containerStatuses=_container({"waiting": {"reason": reason, "message": message}})))
    assert why is not None
    assert (why.cause, why.text, why.image) == ("image", "image i:1 cannot be pulled: not found", "i:1")


def test_a_pod_without_a_node_says_what_is_short() -> None:
    message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    why = waiting(_pod("Pending", conditions=[unscheduled]))
    assert why is not None
    assert why.text == f"unschedulable: {message}"


def test_a_pod_whose_init_container_runs_names_it() -> None:
    init = [{"name": "wait-for-disk", "image": "i", "state": {"running": {}}}]
    waits = _container({"waiting": {"reason": "PodInitializing"}})
    why = waiting(_pod("Pending", initContainerStatuses=init, containerStatuses=waits))
    assert why is not None
    assert why.text == "init container wait-for-disk runs"


def test_a_missing_secret_is_a_reason_to_wait() -> None:
    state = {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "s3" not found'}}
    why = waiting(_pod("Pending", containerStatuses=_container(state)))
    assert why is not None
    assert why.text == 'CreateContainerConfigError: secret "s3" not found'


def test_a_pod_that_is_just_starting_waits_for_nothing() -> None:
    assert waiting(_pod("Pending", containerStatuses=_container({"waiting": {"reason": "ContainerCreating"}}))) is None


def test_each_failed_run_of_a_container_is_an_end_of_its_own() -> None:
    status = _container({"terminated": _terminated("c2", 3)}, last=_terminated("c1", 137, "OOMKilled"), restarts=1)
    first, second = ends(PYTORCHJOB, _pod(containerStatuses=status))
    assert (first.key, first.attempt, first.exit_code, first.is_out_of_memory) == ("c1", 0, 137, True)
    assert (second.key, second.attempt, second.exit_code, second.rank) == ("c2", 1, 3, 1)


def test_a_container_that_waits_to_be_restarted_has_ended_once() -> None:
    state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
    (end,) = ends(PYTORCHJOB, _pod(containerStatuses=_container(state, last=_terminated("c1"), restarts=1)))
    assert (end.key, end.attempt) == ("c1", 0)


def test_a_container_that_ended_well_or_because_its_pod_is_deleted_has_not_failed() -> None:
    well = _pod(containerStatuses=_container({"terminated": _terminated("c1", 0)}))
    deleted = _pod(leaving=True, containerStatuses=_container({"terminated": _terminated("c1", 137)}))
    assert [*ends(PYTORCHJOB, well), *ends(PYTORCHJOB, deleted)] == []
    assert is_done(well)
    assert not is_done(deleted)


@pytest.mark.parametrize(("reason", "is_eviction"), [("Evicted", True), ("DeadlineExceeded", False)])
def test_a_pod_that_ended_as_a_whole_hides_the_exit_codes_of_its_containers(reason: str, is_eviction: bool) -> None:
    status = _container({"terminated": _terminated("c1", 137)})
    (end,) = ends(PYTORCHJOB, _pod("Failed", reason=reason, message="disk", containerStatuses=status))
    assert (end.reason, end.exit_code, end.is_eviction, end.is_deadline) == (reason, None, is_eviction, not is_eviction)


def test_the_runs_of_a_container_are_its_previous_and_its_present_one() -> None:
    present = _pod(containerStatuses=_container({"running": {}}, last=_terminated("c1"), restarts=1))
    present["status"]["containerStatuses"][0]["containerID"] = "c2"
    before, now = container_runs(present, "pytorch")
    assert (before.container_id, before.is_ended, before.is_previous) == ("c1", True, True)
    assert (now.container_id, now.is_ended, now.is_previous) == ("c2", False, False)
    assert is_running(present)
