"""`windlass runs`: what was run in a workspace."""

from __future__ import annotations

from collections.abc import Sequence

from windlass.recipe.runs import RunRecord, list_runs
from windlass.storage import Workspace
from windlass_cli.console import duration, print_json, stdout, table
from windlass_cli.summary import RunSummary, print_summary, summarize


def list_all(root: str, *, as_json: bool) -> None:
    """The runs of a workspace, the newest first."""
    print_runs(list_runs(Workspace(root)), root, start="windlass run RECIPE", as_json=as_json)


def show(run_id: str, root: str, *, as_json: bool) -> None:
    """One run: its steps, its candidates, its verdict."""
    print_run(summarize(Workspace(root), run_id, root=root), as_json=as_json)


def print_runs(records: Sequence[RunRecord], root: str, *, start: str, as_json: bool) -> None:
    """One row for each run, and how to go on with those that were interrupted.

    Args:
        start: what to type where there is none yet.
    """
    if as_json:
        print_json([record.model_dump(mode="json") for record in records])
    elif not records:
        stdout().print(f"nothing was run in {root} yet; start with `{start}`", markup=False)
    else:
        rows = [_row(record) for record in records]
        stdout().print(table(("run", "status", "started", "took", "steps"), rows, right=frozenset({3})))
        for line in dict.fromkeys(_how_to_go_on(record) for record in records if record.status == "interrupted"):
            stdout().print(line, markup=False)


def print_run(summary: RunSummary, *, as_json: bool) -> None:
    """All that is known of one run."""
    if as_json:
        print_json(summary.model_dump(mode="json"))
        return
    print_summary(stdout(), summary, steps=True)
    if summary.run.status == "interrupted":
        stdout().print(_how_to_go_on(summary.run), markup=False)


def _row(record: RunRecord) -> tuple[str, ...]:
    took = duration((record.finished - record.started).total_seconds()) if record.finished else ""
    done = ", ".join(result.step for result in record.steps)
    return record.run_id, record.status, f"{record.started.astimezone():%Y-%m-%d %H:%M:%S}", took, done


def _how_to_go_on(record: RunRecord) -> str:
    command = record.command or "run its recipe again"
    return f"to go on where {record.name} was interrupted: {command}"
