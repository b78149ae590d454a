"""The part of a failed rank's log that says what happened."""

from __future__ import annotations

from windlass.cluster._logs import nanoseconds
from windlass.cluster._rest import Rest
from windlass.cluster.errors import ApiError, ClusterUnreachableError
from windlass.cluster.kinds import Resource
from windlass.cluster.pods import Ended, log_path

_READ_LINES = 300
_SHOWN_LINES = 20
_TRACEBACK_LINES = 60
_TRACEBACK = "Traceback (most recent call last):"
_CHAINS = ("During handling of the above exception", "The above exception was the direct cause")
_SECOND_NS = 10**9


def log_tail(rest: Rest, pod: Resource, container: str, ended: Ended) -> str:
    """What the run of the container that has `ended` wrote last; empty if it is gone already.

    The kubelet starts the container again at once, so the present log may be the next run's, and the previous one
    this one's, or one before it: both are read, and the times tell.
    """
    first_ns, last_ns = nanoseconds(ended.started_at) or 0, (nanoseconds(ended.finished_at) or 0) + _SECOND_NS
    lines: list[str] = []
    for previous in ("true", "false"):
        query = {"container": container, "timestamps": "true", "tailLines": str(_READ_LINES), "previous": previous}
        try:
            text = rest.text(log_path(pod), query)
        except (ApiError, ClusterUnreachableError):
            continue
        for line in text.splitlines():
            stamp, _, content = line.partition(" ")
            if first_ns <= (nanoseconds(stamp) or 0) < last_ns:
                lines.append(content)
    return what_happened(lines)


def what_happened(lines: list[str]) -> str:
    """The first traceback, with what it is chained to, else the last lines.

    torchrun writes a traceback of its own below its child's: the first one is the rank's.
    """
    starts = [number for number, line in enumerate(lines) if _TRACEBACK in line]
    if not starts:
        return "\n".join(lines[-_SHOWN_LINES:])
    start = starts[0]
    prefix = lines[start].split(_TRACEBACK)[0]  # torch writes "[rank0]: " before each line
    end = _end_of_traceback(lines, start, prefix)
    return "\n".join(lines[start:end][-_TRACEBACK_LINES:])


def _end_of_traceback(lines: list[str], start: int, prefix: str) -> int:
    number = start + 1
    while number < len(lines):
        line = lines[number].removeprefix(prefix)
        number += 1
        if line and not line.startswith(" "):  # the exception itself
            following = [each.removeprefix(prefix) for each in lines[number : number + 2]]
            if not any(each.startswith(_CHAINS) for each in following):
                return number
            while number < len(lines) and _TRACEBACK not in lines[number]:
                number += 1
            number += 1
    return number
