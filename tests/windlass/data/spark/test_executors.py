"""What the driver does while executors are missing."""

from __future__ import annotations

import itertools

import pytest

from windlass.cluster.missing import Missing
from windlass.data.spark import executors
from windlass.data.spark.executors import NoExecutorsError, wait_for_executors
from windlass.data.spark.kubernetes import ExecutorPods

PODS = ExecutorPods(count=2, memory_bytes=4 * 10**9)
QUOTA = Missing("exceeded quota: small, requested: limits.memory=4G, limited: limits.memory=1G", is_hopeless=True)


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "_ASK_EVERY_S", 0.0)
    monkeypatch.setattr(executors, "_POLL_S", 0.01)


def test_it_goes_on_as_soon_as_all_have_registered() -> None:
    counts = itertools.chain([0, 1], itertools.repeat(2))
    assert wait_for_executors(PODS, lambda: next(counts), lambda: None, patience_s=60) == 2


def test_a_quota_that_lets_none_in_is_an_error_that_says_what_is_short() -> None:
    with pytest.raises(NoExecutorsError) as raised:
        wait_for_executors(PODS, lambda: 0, lambda: QUOTA, patience_s=0.05)
    text = str(raised.value)
    assert text.startswith("none of 2 Spark executors of 4.0 GB and 1 cores could be started: exceeded quota: small")
    assert "lower data.executor_memory" in text


def test_with_some_it_goes_on_and_says_why_there_are_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    assert wait_for_executors(PODS, lambda: 1, lambda: QUOTA, patience_s=0.05) == 1
    assert "Spark has 1 of 2 executors: exceeded quota" in capsys.readouterr().err


def test_the_first_one_is_waited_for_while_no_node_has_room() -> None:
    full = Missing("unschedulable: 0/1 nodes are available", is_hopeless=False)
    counts = itertools.chain([0] * 30, itertools.repeat(2))
    assert wait_for_executors(PODS, lambda: next(counts), lambda: full, patience_s=0.05) == 2
