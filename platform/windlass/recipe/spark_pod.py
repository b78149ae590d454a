"""What the pod of a prepare step on Spark runs: `python -m windlass.recipe.spark_pod --root s3://… --key KEY`.

It publishes the bundle below the root, as the step does on one machine, and ends with the exit code of its error, which
is its termination message.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

from windlass import progress
from windlass.errors import InterruptedRunError, InvalidInputError, WindlassError
from windlass.recipe.preparing import prepare_here, prepare_key
from windlass.recipe.resolve import ResolvedRecipe
from windlass.recipe.runs import StepError
from windlass.recipe.spark_job import request_name
from windlass.storage import Workspace

_MOST_MESSAGE_BYTES = 3000
"""The kubelet keeps 4,096 of the whole message."""


class OtherSourcesError(InvalidInputError):
    """Spark's image and that of the steps were made of different sources, so each would look for other results."""

    def __init__(self) -> None:
        super().__init__(
            "the image of Spark and that of the steps are of different versions of Windlass: make both from the same "
            "sources (make images IMAGES='windlass:cpu windlass:spark') and bring them to the cluster's nodes"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description="prepare the data of a run on Spark")
    parser.add_argument("--root", required=True, help="where the results live, s3://bucket/prefix")
    parser.add_argument("--key", required=True, help="of the step")
    parser.add_argument("--termination", type=Path, default=Path("/dev/termination-log"), help="what the kubelet reads")
    arguments = parser.parse_args()
    # The first process of a container ignores signals that it has no handler for.
    signal.signal(signal.SIGTERM, _stop)
    workspace = Workspace(arguments.root, Path("/tmp/windlass"))  # noqa: S108 - an emptyDir
    try:
        resolved = _read_request(workspace, arguments.key)
        if prepare_key(resolved) != arguments.key:
            raise OtherSourcesError
        prepare_here(resolved, workspace)
    except WindlassError as error:
        progress.message(str(error))
        arguments.termination.write_text(_termination_message(error), encoding="utf-8")
        return error.exit_code
    return 0


def _read_request(workspace: Workspace, key: str) -> ResolvedRecipe:
    data = workspace.read_document(request_name(key))
    if data is None:
        raise InvalidInputError(f"there is no {request_name(key)} below {workspace.uri}; run the step again")
    return ResolvedRecipe.model_validate_json(data)


def _termination_message(error: WindlassError) -> str:
    text = str(error).encode()[:_MOST_MESSAGE_BYTES].decode(errors="ignore")
    said = StepError(type=type(error).__name__, message=text, exit_code=error.exit_code, step="prepare")
    return said.model_dump_json()


def _stop(_signum: int, _frame: FrameType | None) -> NoReturn:
    raise InterruptedRunError("the run was stopped; the same command continues it")


if __name__ == "__main__":
    sys.exit(main())
