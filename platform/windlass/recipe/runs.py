"""What happened in a run, kept under `runs/<run_id>/` for people and for the next run."""

from __future__ import annotations

import datetime
import fcntl
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from windlass.errors import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_TEST_OVER_BUDGET, InvalidInputError
from windlass.progress import message
from windlass.recipe.resolve import ResolvedRecipe
from windlass.schema import Document, Section
from windlass.storage import Reference, Workspace

Summary = dict[str, float | int | str]
"""Figures for people, in the order in which they are shown."""
RunStatus = Literal["running", "succeeded", "failed", "interrupted"]


class RunNotFoundError(InvalidInputError):
    """No run of this name is in the workspace."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"there is no run {run_id!r} here; `windlass runs` lists them")
        self.run_id = run_id


class StepResult(Section):
    """One step of one run."""

    step: str
    key: str
    reference: Reference
    cached: bool
    seconds: float = 0.0
    """How long the step took in its process, start-up apart; set by who runs it."""
    summary: Summary


class StepError(Section):
    """Why a step failed, in words that a user can act upon: `runs/<run_id>/error.json`."""

    type: str
    message: str
    exit_code: int
    step: str


class RunRecord(Document):
    format_version: Literal[1] = 1
    run_id: str
    name: str
    recipe_digest: str
    status: RunStatus
    exit_code: int | None = None
    started: datetime.datetime
    finished: datetime.datetime | None = None
    steps: tuple[StepResult, ...] = ()
    command: str | None = None
    """What was typed, and continues the run when it is typed again."""


def new_run(workspace: Workspace, resolved: ResolvedRecipe, *, command: str | None = None) -> str:
    """Open a run: keep the resolved recipe and say that it is running.

    Args:
        command: what a person types to start it, and to go on when it was interrupted.

    Returns:
        Its id: the recipe's name, the time in UTC and four random digits, so that two at once differ.
    """
    now = datetime.datetime.now(datetime.UTC)
    run_id = f"{resolved.name}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    record = RunRecord(
        run_id=run_id,
        name=resolved.name,
        recipe_digest=resolved.digest,
        status="running",
        started=now,
        command=command,
    )
    workspace.write_document(f"runs/{run_id}/recipe.json", resolved.model_dump_json(by_alias=True, indent=2).encode())
    _write(workspace, record)
    return run_id


@contextmanager
def hold_run(workspace: Workspace, run_id: str) -> Iterator[None]:
    """Say that this process runs it: while the block lasts, and no longer than the process lives.

    A run that nobody holds any more on this machine and that was not finished is interrupted, also if it was killed
    without a moment to say so.
    """
    path = _holder(workspace, run_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(socket.gethostname())
        file.flush()
        yield


def reopen_run(workspace: Workspace, run_id: str) -> None:
    """Say that a run is running, also if a process that was told to stop has closed it: another one goes on with it.

    What the first one said of its end is no word of the second one's.
    """
    workspace.delete_document(_error_name(run_id))
    changes = {"status": "running", "exit_code": None, "finished": None}
    _write(workspace, _read(workspace, run_id).model_copy(update=changes))


def record_error(workspace: Workspace, run_id: str, error: StepError) -> None:
    """Keep why a step failed: all that an orchestrator says of it is that it did."""
    workspace.write_document(_error_name(run_id), error.model_dump_json(indent=2).encode())


def read_error(workspace: Workspace, run_id: str) -> StepError | None:
    """Why a step of the run failed; None if none said so.

    Raises:
        InvalidInputError: it was written by another version.
    """
    data = workspace.read_document(_error_name(run_id))
    if data is None:
        return None
    try:
        return StepError.model_validate_json(data)
    except ValidationError:
        raise InvalidInputError(
            f"{_error_name(run_id)} is of another version of windlass; remove that folder"
        ) from None


def _error_name(run_id: str) -> str:
    return f"runs/{run_id}/error.json"


def record_step(workspace: Workspace, run_id: str, result: StepResult) -> None:
    """Add a finished step; steps of one run follow each other, so there is one writer at a time.

    In a run whose pod was replaced a step comes again.
    """
    record = _read(workspace, run_id)
    others = tuple(each for each in record.steps if each.step != result.step)
    _write(workspace, record.model_copy(update={"steps": (*others, result)}))


def mark_cancelled(workspace: Workspace, run_id: str) -> None:
    """Say that a run is to be stopped, before anything of it is deleted.

    A step may see its training job go before it is told to stop itself, and would call that a failure.
    """
    workspace.write_document(_cancelled_name(run_id), b"{}")


def _cancelled_name(run_id: str) -> str:
    return f"runs/{run_id}/cancelled.json"


def finish_run(workspace: Workspace, run_id: str, exit_code: int) -> None:
    """Close a run with the code that the command ended with, and its MLflow run if a step has left one open.

    What fails in a run that was cancelled is interrupted.
    """
    if exit_code == EXIT_FAILURE and workspace.read_document(_cancelled_name(run_id)) is not None:
        exit_code = EXIT_INTERRUPTED
    if exit_code == EXIT_INTERRUPTED:
        status: RunStatus = "interrupted"
    else:
        status = "succeeded" if exit_code in (0, EXIT_TEST_OVER_BUDGET) else "failed"
    changes = {"status": status, "exit_code": exit_code, "finished": datetime.datetime.now(datetime.UTC)}
    record = _read(workspace, run_id).model_copy(update=changes)
    _write(workspace, record)
    _end_tracked_run(workspace, record)


def _end_tracked_run(workspace: Workspace, record: RunRecord) -> None:
    """Training may have opened a run on a tracking server; only `register` ends it, and it did not come to that."""
    done = {result.step for result in record.steps}
    if "prepare" not in done or "register" in done or find_spec("mlflow") is None:
        return
    from windlass.registry import RegistryError, default_tracking_uri
    from windlass.registry.mirror import ENDINGS, end_run

    registration = read_recipe(workspace, record.run_id).recipe.registration
    tracking_uri = registration.tracking_uri or default_tracking_uri(workspace.local)
    if not tracking_uri.startswith("http"):
        return
    try:
        end_run(tracking_uri, experiment=record.name, run_id_tag=record.run_id, ending=ENDINGS[record.status])
    except RegistryError as error:
        message(f"the run of {record.run_id} stays open in MLflow: {error}")


def read_run(workspace: Workspace, run_id: str) -> RunRecord:
    """The record of one run, as it stands: a run whose process on this machine is gone is interrupted.

    Raises:
        RunNotFoundError: there is none of this id.
    """
    record = _read(workspace, run_id)
    if record.status == "running" and _is_abandoned(_holder(workspace, run_id)):
        return record.model_copy(update={"status": "interrupted"})
    return record


def _holder(workspace: Workspace, run_id: str) -> Path:
    return workspace.local / "runs" / run_id / "holder.lock"


def _is_abandoned(holder: Path) -> bool:
    """Whether a process of this machine held the run and is gone; another machine's locks cannot be seen from here."""
    try:
        with holder.open(encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return file.read() == socket.gethostname()
    except (FileNotFoundError, BlockingIOError):
        return False


def _read(workspace: Workspace, run_id: str) -> RunRecord:
    data = workspace.read_document(f"runs/{run_id}/run.json")
    if data is None:
        raise RunNotFoundError(run_id)
    try:
        return RunRecord.model_validate_json(data)
    except ValidationError:
        raise InvalidInputError(
            f"runs/{run_id}/run.json is of another version of windlass; remove that folder"
        ) from None


def read_recipe(workspace: Workspace, run_id: str) -> ResolvedRecipe:
    """The resolved recipe of one run."""
    data = workspace.read_document(f"runs/{run_id}/recipe.json")
    if data is None:
        raise RunNotFoundError(run_id)
    return ResolvedRecipe.model_validate_json(data)


def list_runs(workspace: Workspace) -> list[RunRecord]:
    """All runs, the newest first."""
    names = [name for name in workspace.list_documents("runs/") if name.endswith("/run.json")]
    records = []
    for name in names:
        with suppress(RunNotFoundError):  # it was pruned since
            records.append(read_run(workspace, name.split("/")[1]))
    return sorted(records, key=lambda record: record.started, reverse=True)


def _write(workspace: Workspace, record: RunRecord) -> None:
    workspace.write_document(f"runs/{record.run_id}/run.json", record.model_dump_json(indent=2).encode())
