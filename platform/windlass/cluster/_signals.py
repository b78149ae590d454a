"""Takes a job down when its launcher is told to stop, before anything else happens."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Self

from windlass.cluster._rest import Rest
from windlass.cluster.errors import ApiError, ClusterUnreachableError, LaunchInterruptedError

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_CREATION_S = 0.1


class DeleteOnSignal:
    """While it is entered in the main thread, SIGTERM and SIGINT delete the job at `path` and raise.

    Kubeflow Pipelines kills a cancelled step 0.3 s after SIGTERM: so the connection is open before the signal comes,
    and the handler's first act is one request. In other threads it does nothing, for only the main one gets signals.
    """

    def __init__(self, rest: Rest, path: str, job: str) -> None:
        self._rest, self._path, self._job = rest, path, job
        self._is_main = threading.current_thread() is threading.main_thread()
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Self:
        if self._is_main:
            self._rest.find(self._path)  # connects, and imports what a request needs
            self._previous = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() itself returned
        self._rest.close()

    def _delete(self) -> bool:
        try:
            if not self._rest.delete(self._path, "Background"):
                # The signal may have come while the request that creates the job was under way.
                time.sleep(_CREATION_S)
                self._rest.delete(self._path, "Background")
        except (ApiError, ClusterUnreachableError):
            return False
        return True

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        is_gone = self._delete()
        for each in _SIGNALS:  # a second signal must not interrupt the way out
            signal.signal(each, signal.SIG_IGN)
        raise LaunchInterruptedError(self._job, signal.Signals(number).name, is_gone)
