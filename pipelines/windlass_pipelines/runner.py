"""The process that runs one pipeline with kfp.local: `python -m windlass_pipelines.runner REQUEST.json`.

One process per run, for kfp.local keeps its settings in a singleton and replaces `print`. It outlives SIGTERM until the
step that runs has ended, and it stops when the process that started it is gone (its standard input closes).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from windlass.errors import EXIT_FAILURE
from windlass.evaluation.documents import VERDICT_NAME, Verdict
from windlass.recipe.runs import finish_run, read_run
from windlass.storage import Workspace
from windlass_components.step_runner import STOP_VARIABLE
from windlass_pipelines.request import Request


def main(request_path: Path) -> int:
    """Run what the request asks for and close the run's record.

    Returns:
        The exit code of the run: that of the verdict, of the error that ended a step, or 1.
    """
    signal.signal(signal.SIGTERM, _let_no_step_start)
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    request = Request.read(request_path)
    workspace = Workspace(request.root)
    succeeded = _run_pipeline(request)
    exit_code = _verdict_code(workspace, request.run_id) if succeeded else _error_code(workspace, request.run_id)
    finish_run(workspace, request.run_id, exit_code)
    return exit_code


def _run_pipeline(request: Request) -> bool:
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


def _verdict_code(workspace: Workspace, run_id: str) -> int:
    for result in read_run(workspace, run_id).steps:
        if result.step == "select":
            return Verdict.read(workspace.fetch(result.reference) / VERDICT_NAME).exit_code
    return 0


def _error_code(workspace: Workspace, run_id: str) -> int:
    error = workspace.read_document(f"runs/{run_id}/error.json")
    return int(json.loads(error)["exit_code"]) if error else EXIT_FAILURE


def _let_no_step_start(_signum: int, _frame: FrameType | None) -> None:
    """The step that runs got the same signal, as a member of this process group; it saves and ends."""
    os.environ[STOP_VARIABLE] = "1"


def _stop_with_parent() -> None:
    while os.read(0, 1024):  # nobody writes; it ends when the other end is closed
        pass
    os.killpg(os.getpgrp(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
