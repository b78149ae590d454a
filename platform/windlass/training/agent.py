"""torchrun for one training after another: `python -m windlass.training.agent TORCHRUN-ARGS...`.

Each line of standard input is the control directory of a training, with its request; when the training has ended, a
file beside it says how each worker did. It ends with its input.

A training has worker processes of its own, so that nothing of one is left for the next. They are forked from a server
that has imported torch and never used it: a start takes a moment instead of seconds, and they share its memory.
"""

from __future__ import annotations

import logging
import multiprocessing
import sys
import time
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from windlass.errors import EXIT_INTERRUPTED
from windlass.training.documents import FAILURES_NAME, REQUEST_NAME, Failures, WorkerFailure
from windlass.training.torchrun import is_loss

START_METHOD = "forkserver" if sys.platform == "linux" else "spawn"
"""A fork that does not execute anything crashes in macOS's own libraries."""
_PRELOADED = ["windlass.training.worker", "torch.distributed.run", "torch._dynamo"]
"""What workers need; the last is imported by an optimizer's first update."""
_BLAMED_S = 1.0
"""torchrun looks ten times a second and names the worker that ended first."""


def main() -> None:
    if START_METHOD == "forkserver":
        multiprocessing.set_forkserver_preload(_PRELOADED)
        forkserver.ensure_running()  # imports while this process does
    from torch.distributed.elastic.multiprocessing.api import SignalException

    # What torch says of workers that ended is for people only, and so is torchrun's own command line.
    logging.disable(logging.ERROR)
    try:
        for line in sys.stdin:
            _carry_out(Path(line.rstrip("\n")), sys.argv[1:])
    except SignalException:
        sys.exit(EXIT_INTERRUPTED)


def _carry_out(control: Path, arguments: list[str]) -> None:
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    asked = [*arguments, "--start-method", START_METHOD, "--max-restarts", "0", "--log-dir", str(control / "logs")]
    parsed = run.parse_args([*asked, "--module", _work.__module__])  # type: ignore[no-untyped-call]
    config, _, _ = run.config_from_args(parsed)
    failures = Failures(workers=())
    try:
        elastic_launch(config, _work)(str(control / REQUEST_NAME))
    except ChildFailedError as error:
        first, _ = error.get_first_failure()
        ranks = [first, *(rank for rank in error.failures if rank != first)]
        failures = Failures(workers=tuple(_describe(rank, error.failures[rank]) for rank in ranks))
    temporary = control / f"{FAILURES_NAME}.writing"
    failures.write(temporary)
    temporary.replace(control / FAILURES_NAME)


def _work(request: str) -> None:
    """A worker's own process; one that misses another ends after it."""
    from windlass.training import worker

    try:
        worker.main(Path(request))
    except Exception as error:
        if is_loss(f"{type(error).__name__}: {error}"):
            time.sleep(_BLAMED_S)
        raise


def _describe(rank: int, failure: Any) -> WorkerFailure:
    message = failure.error_file_data.get("message", {}) if failure.error_file_data else {}
    if not isinstance(message, dict):
        return WorkerFailure(rank=rank, exit_code=failure.exitcode, cause=str(message))
    traceback = message.get("extraInfo", {}).get("py_callstack", "")
    return WorkerFailure(rank=rank, exit_code=failure.exitcode, cause=message.get("message", ""), traceback=traceback)


if __name__ == "__main__":
    main()
