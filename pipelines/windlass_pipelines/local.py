"""Run the pipeline on this machine, in a process of its own. Imports no KFP."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from windlass.cluster.settings import ClusterSettings
from windlass.errors import EXIT_FAILURE, EXIT_INTERRUPTED
from windlass.evaluation.documents import VERDICT_NAME, Verdict
from windlass.progress import EVENTS_VARIABLE
from windlass.recipe.runs import finish_run, read_error, read_run
from windlass.schema import Section
from windlass.storage import Workspace
from windlass_pipelines.request import STEPS, Request

LOG_NAME = "pipeline.log"
_POLL_S = 0.1
_SAVE_DEADLINE_S = 60.0
_LOG_TAIL_LINES = 20
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_KEPT_VARIABLES = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"}
    | {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"}
    | {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"}
)
_KEPT_PREFIXES = (
    "WINDLASS_",
    "AWS_",
    "MLFLOW_",
    "OMP_",
    "MKL_",
    "OPENBLAS_",
    "CUDA_",
    "NVIDIA_",
    "NCCL_",
    "LC_",
    "XDG_",
    "KUBERNETES_",
)

EventHandler = Callable[[dict[str, Any]], None]


class Outcome(Section):
    """How a run on this machine ended."""

    exit_code: int
    problem: str | None
    """For people: what went wrong and what to do; None if the run did what it was asked."""
    log: Path


def run_locally(
    workspace: Workspace, run_id: str, *, last_step: str = STEPS[-1], on_event: EventHandler = lambda _: None
) -> Outcome:
    """Run an opened run up to and including `last_step`, and follow it.

    Steps run one after another in processes of their own, in a scrubbed environment. SIGINT and SIGTERM are passed on
    once, as SIGTERM to all processes of the run, which save what they have; then this returns.

    Args:
        workspace: where the run was opened.
        run_id: from `windlass.recipe.runs.new_run`.
        last_step: one of `STEPS`.
        on_event: called in this thread with each event of `windlass.progress`, as it is reported.
    """
    directory = workspace.local / "runs" / run_id
    directory.mkdir(parents=True, exist_ok=True)
    request, events, log = directory / "request.json", directory / "events.jsonl", directory / LOG_NAME
    Request(root=workspace.uri, run_id=run_id, last_step=last_step, directory=str(directory)).write(request)
    events.touch()
    settings = ClusterSettings.from_environment()
    secrets = () if settings is None else [variable.name for variable in settings.secret_variables(())]
    with log.open("wb") as log_file:
        process = subprocess.Popen(
            [sys.executable, "-m", "windlass_pipelines.runner", str(request)],
            stdin=subprocess.PIPE,
            stdout=log_file,
            stderr=subprocess.STDOUT,
            env={**scrubbed_environment(os.environ, secrets), EVENTS_VARIABLE: str(events)},
            start_new_session=True,
        )
    with process, _passing_on_signals(process) as stopped, events.open(encoding="utf-8") as reports:
        while process.poll() is None:
            _report(reports, on_event)
            _kill_what_does_not_end(process, stopped)
            time.sleep(_POLL_S)
        _report(reports, on_event)
    return _outcome(workspace, run_id, process.returncode, stopped=bool(stopped), log=log)


def scrubbed_environment(environment: Mapping[str, str], wanted: Collection[str] = ()) -> dict[str, str]:
    """What a step may see of the environment: nothing that would make its result depend on this terminal.

    Python does not put the current directory on its path, or a file there named as a module would be run instead.

    Args:
        wanted: variables that the recipe asks for.
    """
    names = _KEPT_VARIABLES.union(wanted)
    kept = {name: value for name, value in environment.items() if name in names or name.startswith(_KEPT_PREFIXES)}
    return {**kept, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}


def _report(reports: Any, on_event: EventHandler) -> None:
    """Hand on whole lines only: the last one may still be on its way."""
    while True:
        start = reports.tell()
        line = reports.readline()
        if not line.endswith("\n"):
            reports.seek(start)
            return
        on_event(json.loads(line))


@contextlib.contextmanager
def _passing_on_signals(process: subprocess.Popen[bytes]) -> Iterator[list[float]]:
    """Send SIGTERM to the run's process group at the first SIGINT or SIGTERM; yields the time of it, if it came."""
    stopped: list[float] = []

    def stop(_signum: int, _frame: FrameType | None) -> None:
        if not stopped:
            stopped.append(time.monotonic())
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _kill_what_does_not_end(process: subprocess.Popen[bytes], stopped: list[float]) -> None:
    if stopped and time.monotonic() - stopped[0] > _SAVE_DEADLINE_S:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _outcome(workspace: Workspace, run_id: str, returncode: int, *, stopped: bool, log: Path) -> Outcome:
    exit_code = verdict_code(workspace, run_id) if returncode == 0 else _error_code(workspace, run_id, stopped=stopped)
    finish_run(workspace, run_id, exit_code)
    text = log.read_text(encoding="utf-8", errors="replace")
    problem = describe_problem(workspace, run_id, exit_code, log=text, log_name=str(log))
    return Outcome(exit_code=exit_code, problem=problem, log=log)


def verdict_code(workspace: Workspace, run_id: str) -> int:
    """The exit code of a run whose steps all ended well: its verdict's, or 0 where it did not come to one."""
    for result in read_run(workspace, run_id).steps:
        if result.step == "select":
            return Verdict.read(workspace.fetch(result.reference) / VERDICT_NAME).exit_code
    return 0


def _error_code(workspace: Workspace, run_id: str, *, stopped: bool) -> int:
    error = read_error(workspace, run_id)
    if error is not None:
        return error.exit_code
    return EXIT_INTERRUPTED if stopped else EXIT_FAILURE


def describe_problem(workspace: Workspace, run_id: str, exit_code: int, *, log: str, log_name: str) -> str | None:
    """What went wrong in a run and what to do, for people; None if it did what it was asked.

    Args:
        log: all that the steps said.
        log_name: where a person finds it.
    """
    error = read_error(workspace, run_id)
    if error is not None:
        return f"step {error.step}: {error.message}"
    if exit_code == EXIT_INTERRUPTED:
        return "stopped; what is done is saved, and the same command goes on from there"
    if exit_code != EXIT_FAILURE:
        return None
    lines = [line for line in _COLOUR.sub("", log).splitlines() if line.strip()]
    tail = "\n".join(lines[-_LOG_TAIL_LINES:])
    return f"a step ended unexpectedly; the end of {log_name}:\n{tail}"
