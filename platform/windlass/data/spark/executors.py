"""Waits for executors, and says why they do not come: Spark itself only asks for them again, in its log."""

from __future__ import annotations

import time
from collections.abc import Callable

from windlass.cluster.missing import Missing
from windlass.data.errors import DataError
from windlass.data.spark.kubernetes import ExecutorPods
from windlass.progress import message
from windlass.schema import format_size

PATIENCE_S = 60.0
"""How long pods may be refused, or their image may fail to be pulled, or the last of several may be missing."""
_POLL_S = 0.5
_ASK_EVERY_S = 5.0


class NoExecutorsError(DataError):
    """Not one executor could be started."""

    def __init__(self, pods: ExecutorPods, why: str) -> None:
        super().__init__(
            f"none of {pods.count} Spark executors of {format_size(pods.memory_bytes)} and {pods.cpu:g} cores could be "
            f"started: {why}; lower data.executor_memory or resources.cluster.step.cpu, or let an administrator give "
            "the namespace more"
        )
        self.pods, self.why = pods, why


def wait_for_executors(
    pods: ExecutorPods,
    registered: Callable[[], int],
    missing: Callable[[], Missing | None],
    patience_s: float = PATIENCE_S,
) -> int:
    """Return how many have registered: all, or some where the rest is not to be had.

    A pod that waits for a node is waited for, if it would be the first.

    Args:
        registered: how many Spark has now.
        missing: asks the cluster, of which it is asked once in a few seconds.

    Raises:
        NoExecutorsError: there will be none.
        ApiError: the driver's account lacks a right.
    """
    since_s = asked_s = time.monotonic()
    said = ""
    while (count := registered()) < pods.count:
        now_s = time.monotonic()
        if now_s - asked_s >= _ASK_EVERY_S:
            asked_s, found = now_s, missing()
            if found is not None and found.why != said:
                said = found.why
                message(f"Spark has {count} of {pods.count} executors: {said}")
            if now_s - since_s > patience_s and (count or (found is not None and found.is_hopeless)):
                if count == 0:
                    raise NoExecutorsError(pods, said)
                return count
        time.sleep(_POLL_S)
    return count
