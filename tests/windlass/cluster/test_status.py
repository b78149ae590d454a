"""One map from what either operator writes to the states of a job."""

from __future__ import annotations

from typing import Any

import pytest

from windlass.cluster.status import JobState, is_past_deadline, state_of


def _job(*held: str, past: tuple[str, ...] = (), **status: Any) -> dict[str, Any]:
    conditions = [{"type": each, "status": "True"} for each in held] + [
        {"type": each, "status": "False"} for each in past
    ]
    return {"status": {"conditions": conditions, **status}}


@pytest.mark.parametrize(
    ("resource", "state"),
    [
        ({}, JobState.PENDING),
        ({"status": {"conditions": None}}, JobState.PENDING),
        (_job("Created"), JobState.PENDING),
        (_job("Created", "Running"), JobState.RUNNING),
        (_job("Created", "Restarting", past=("Running",)), JobState.RESTARTING),
        (_job("Created", "Suspended", past=("Running",)), JobState.SUSPENDED),
        (_job("Created", "Running", past=("Suspended",)), JobState.RUNNING),
        (_job("Created", "Succeeded", past=("Running",)), JobState.SUCCEEDED),
        (_job("Created", "Failed", "Restarting", past=("Running",)), JobState.FAILED),
    ],
)
def test_the_state_of_a_pytorchjob(resource: dict[str, Any], state: JobState) -> None:
    assert state_of(resource) is state


@pytest.mark.parametrize(
    ("resource", "state"),
    [
        (_job(jobsStatus=[{"name": "node", "active": 2, "ready": 0}]), JobState.PENDING),
        (_job(jobsStatus=[{"name": "node", "active": 2, "ready": 2}]), JobState.RUNNING),
        (_job("Suspended", jobsStatus=[{"name": "node", "active": 0, "ready": 0}]), JobState.SUSPENDED),
        (_job("Complete", jobsStatus=[{"name": "node", "active": 0, "ready": 0}]), JobState.SUCCEEDED),
        (_job("Failed"), JobState.FAILED),
    ],
)
def test_the_state_of_a_trainjob(resource: dict[str, Any], state: JobState) -> None:
    assert state_of(resource) is state


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"reason": "DeadlineExceeded", "message": "TrainJob exceeded its active deadline"}, True),
        ({"reason": "PyTorchJobFailed", "message": "it was active longer than specified deadline"}, True),
        ({"reason": "FailedJobs", "message": "jobset failed"}, False),
    ],
)
def test_a_deadline_is_told_from_other_failures(condition: dict[str, str], expected: bool) -> None:
    resource = {"status": {"conditions": [{"type": "Failed", "status": "True", **condition}]}}
    assert is_past_deadline(resource) is expected


def test_only_success_and_failure_are_final() -> None:
    assert {state for state in JobState if state.is_final} == {JobState.SUCCEEDED, JobState.FAILED}
