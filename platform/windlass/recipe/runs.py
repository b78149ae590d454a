"""What happened in a run, kept under `runs/<run_id>/` for people and for the next run."""

from __future__ import annotations

import datetime
import secrets
from typing import Literal

from pydantic import ValidationError

from windlass.errors import EXIT_FAILURE, EXIT_INTERRUPTED, InvalidInputError
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


def new_run(workspace: Workspace, resolved: ResolvedRecipe) -> str:
    """Open a run: keep the resolved recipe and say that it is running.

    Returns:
        Its id: the recipe's name, the time in UTC and four random digits, so that two at once differ.
    """
    now = datetime.datetime.now(datetime.UTC)
    run_id = f"{resolved.name}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    record = RunRecord(run_id=run_id, name=resolved.name, recipe_digest=resolved.digest, status="running", started=now)
    workspace.write_document(f"runs/{run_id}/recipe.json", resolved.model_dump_json(by_alias=True, indent=2).encode())
    _write(workspace, record)
    return run_id


def record_step(workspace: Workspace, run_id: str, result: StepResult) -> None:
    """Add a finished step; steps of one run follow each other, so there is one writer at a time."""
    record = read_run(workspace, run_id)
    _write(workspace, record.model_copy(update={"steps": (*record.steps, result)}))


def finish_run(workspace: Workspace, run_id: str, exit_code: int) -> None:
    """Close a run with the code that the command ended with."""
    if exit_code == EXIT_INTERRUPTED:
        status: RunStatus = "interrupted"
    else:
        status = "failed" if exit_code in (EXIT_FAILURE, 2, 3) else "succeeded"
    changes = {"status": status, "exit_code": exit_code, "finished": datetime.datetime.now(datetime.UTC)}
    _write(workspace, read_run(workspace, run_id).model_copy(update=changes))


def read_run(workspace: Workspace, run_id: str) -> RunRecord:
    """The record of one run.

    Raises:
        RunNotFoundError: there is none of this id.
    """
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
    records = [read_run(workspace, name.split("/")[1]) for name in names]
    return sorted(records, key=lambda record: record.started, reverse=True)


def _write(workspace: Workspace, record: RunRecord) -> None:
    workspace.write_document(f"runs/{record.run_id}/run.json", record.model_dump_json(indent=2).encode())
