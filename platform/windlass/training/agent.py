"""torchrun, saying in a file how each worker ended: `python -m windlass.training.agent FAILURES.json TORCHRUN-ARGS...`.

torchrun's own command line prints this for people only.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from windlass.errors import EXIT_INTERRUPTED
from windlass.training.documents import Failures, WorkerFailure


def main() -> None:
    path, *arguments = sys.argv[1:]
    try:
        run.run(run.parse_args(arguments))  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        first, _ = error.get_first_failure()
        ranks = [first, *(rank for rank in error.failures if rank != first)]
        Failures(workers=tuple(_describe(rank, error.failures[rank]) for rank in ranks)).write(Path(path))
        sys.exit(1)
    except SignalException:
        sys.exit(EXIT_INTERRUPTED)


def _describe(rank: int, failure: Any) -> WorkerFailure:
    message = failure.error_file_data.get("message", {}) if failure.error_file_data else {}
    if not isinstance(message, dict):
        return WorkerFailure(rank=rank, exit_code=failure.exitcode, cause=str(message))
    traceback = message.get("extraInfo", {}).get("py_callstack", "")
    return WorkerFailure(rank=rank, exit_code=failure.exitcode, cause=message.get("message", ""), traceback=traceback)


if __name__ == "__main__":
    main()
