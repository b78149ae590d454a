"""The process that runs one pipeline with kfp.local: `python -m windlass_pipelines.runner REQUEST.json`.

One process per run, for kfp.local keeps its settings in a singleton and replaces `print`. It outlives SIGTERM until the
step that runs has ended, and it stops when the process that started it is gone (its standard input closes).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from windlass.errors import EXIT_FAILURE, EXIT_INTERRUPTED
from windlass_components.stopping import STOP_VARIABLE
from windlass_pipelines.request import Request

_KFP_RUNTIME_VARIABLE = "_KFP_RUNTIME"
_parent_is_gone = threading.Event()


def main(request_path: Path) -> int:
    """Run what the request asks for.

    Returns:
        0 if every step ended well, else 1; why is written below the run by the step. The process that started this one
        closes the run's record; only if that one is gone, it is closed here.
    """
    signal.signal(signal.SIGTERM, _let_no_step_start)
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    request = Request.read(request_path)
    succeeded = _run_pipeline(request)
    if _parent_is_gone.is_set() and not succeeded:
        _close_as_interrupted(request)
    return 0 if succeeded else EXIT_FAILURE


def _run_pipeline(request: Request) -> bool:
    with _without_kfps_client():
        from kfp import local

    from windlass_pipelines.recipe_pipeline import recipe_pipeline

    directory = Path(request.directory)
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(directory / "kfp"),
        workspace_root=str(directory / "kfp-workspace"),
    )
    try:
        recipe_pipeline(request.last_step)(root=request.root, run_id=request.run_id)
    except RuntimeError as error:  # all that kfp.local says of a failed step
        print(error, file=sys.stderr)
        return False
    return True


@contextlib.contextmanager
def _without_kfps_client() -> Iterator[None]:
    """Import kfp by its own switch for step processes: its client takes 0.45 s to load and nothing here asks a server.

    The steps' processes must not inherit the variable: they set it themselves.
    """
    os.environ[_KFP_RUNTIME_VARIABLE] = "true"
    try:
        yield
    finally:
        del os.environ[_KFP_RUNTIME_VARIABLE]


def _close_as_interrupted(request: Request) -> None:
    from windlass.recipe.runs import finish_run
    from windlass.storage import Workspace

    finish_run(Workspace(request.root), request.run_id, EXIT_INTERRUPTED)


def _let_no_step_start(_signum: int, _frame: FrameType | None) -> None:
    """The step that runs got the same signal, as a member of this process group; it saves and ends."""
    os.environ[STOP_VARIABLE] = "1"


def _stop_with_parent() -> None:
    while os.read(0, 1024):  # nobody writes; it ends when the other end is closed
        pass
    _parent_is_gone.set()
    os.killpg(os.getpgrp(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
