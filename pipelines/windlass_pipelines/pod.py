"""A whole run in one pod: `python -m windlass_pipelines.pod --root s3://… --run-id ID [--last-step STEP]`.

It runs the pipeline as a laptop does; steps that train make a job of the cluster. Each event of `windlass.progress` is
a line of JSON on standard output, so that whoever follows the pod's log sees what a terminal would show. All that the
steps said lies in the root when it ends, below `runs/<run_id>/`.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from windlass.recipe.runs import hold_run, reopen_run
from windlass.storage import Workspace
from windlass_pipelines.local import LOG_NAME, run_locally
from windlass_pipelines.request import STEPS


def main() -> int:
    """Run, and end with the exit code of the run."""
    parser = argparse.ArgumentParser(description="run a recipe that was opened below a root")
    parser.add_argument("--root", required=True)
    parser.add_argument("--run-id", required=True)
    parser.add_argument("--last-step", choices=STEPS, default=STEPS[-1])
    arguments = parser.parse_args()
    workspace = Workspace(arguments.root)
    reopen_run(workspace, arguments.run_id)
    with hold_run(workspace, arguments.run_id):
        outcome = run_locally(workspace, arguments.run_id, last_step=arguments.last_step, on_event=_print)
    workspace.write_document(log_document(arguments.run_id), outcome.log.read_bytes())
    return outcome.exit_code


def log_document(run_id: str) -> str:
    """The name, below the root, of all that the steps of a run in a pod said."""
    return f"runs/{run_id}/{LOG_NAME}"


def _print(event: dict[str, Any]) -> None:
    print(json.dumps(event, default=str), flush=True)


if __name__ == "__main__":
    sys.exit(main())
