"""`windlass prune`: free the disk of a root."""

from __future__ import annotations

import sys
from collections import Counter

import typer
from pydantic import TypeAdapter, ValidationError

from windlass.errors import InvalidInputError
from windlass.progress import track
from windlass.recipe.pruning import Item, PrunePlan, plan_pruning, remove_unneeded
from windlass.registry.tracking import default_tracking_uri
from windlass.schema import DurationS, format_size
from windlass.storage import Workspace
from windlass_cli.console import print_json, stderr, stdout, table
from windlass_cli.display import open_display

DEFAULT_KEEP_RUNS = 10


class UnconfirmedError(InvalidInputError):
    """Nobody is there who could be asked."""

    def __init__(self) -> None:
        super().__init__("nothing was removed: this is no terminal to ask at; add --yes, or --dry-run to look first")


def prune(
    *,
    keep_runs: int | None,
    older_than: str | None,
    dry_run: bool,
    yes: bool,
    root: str,
    tracking_uri: str | None,
    as_json: bool,
) -> None:
    """Show what nothing needs, ask, and remove it.

    Raises:
        InvalidInputError: --older-than is no duration; or nobody can be asked.
        AliasesUnknownError: a registry does not answer; nothing was removed.
    """
    workspace = Workspace(root)
    older_than_s = _seconds(older_than)
    if keep_runs is None:
        keep_runs = DEFAULT_KEEP_RUNS if older_than_s is None else 0
    plan = plan_pruning(
        workspace,
        tracking_uri=tracking_uri or default_tracking_uri(workspace.local),
        keep_runs=keep_runs,
        older_than_s=older_than_s,
    )
    if not as_json:
        _print_plan(plan)
    removed: list[Item] = []
    if not dry_run and plan.items and (yes or _confirmed(plan)):
        _remove(workspace, plan, removed, as_json=as_json)
    if as_json:
        print_json({**plan.model_dump(mode="json"), "removed": [item.name for item in removed]})


def _seconds(older_than: str | None) -> float | None:
    if older_than is None:
        return None
    try:
        return TypeAdapter(DurationS).validate_python(older_than)
    except ValidationError as error:
        raise InvalidInputError(f"--older-than {older_than}: {error.errors()[0]['msg']}") from None


def _print_plan(plan: PrunePlan) -> None:
    console = stdout()
    for kept in plan.kept_runs:
        if kept.why == "in progress":
            console.print(f"{kept.run_id} is in progress: what may be new since it began stays", markup=False)
    if not plan.items:
        console.print(
            f"nothing to remove from {plan.root}: all {format_size(plan.kept_bytes)} may be needed", markup=False
        )
        return
    counts, sizes = Counter(item.kind for item in plan.items), Counter[str]()
    for item in plan.items:
        sizes[item.kind] += item.size_bytes
    rows = [(kind, str(count), format_size(sizes[kind])) for kind, count in counts.items()]
    rows.append(("in all", str(len(plan.items)), format_size(plan.size_bytes)))
    console.print(table(("nothing needs", "how many", "size"), rows, right=frozenset({1, 2})))
    console.print(
        f"{len(plan.kept_runs)} runs stay, with {format_size(plan.kept_bytes)}; what lies in MLflow is not touched",
        markup=False,
    )


def _confirmed(plan: PrunePlan) -> bool:
    if not sys.stdin.isatty():
        raise UnconfirmedError
    return typer.confirm(f"remove {format_size(plan.size_bytes)} from {plan.root}?", err=True)


def _remove(workspace: Workspace, plan: PrunePlan, removed: list[Item], *, as_json: bool) -> None:
    try:
        with open_display(as_json=as_json), track("removing", total=plan.size_bytes / 1e6, unit="MB") as bar:
            for item in remove_unneeded(workspace, plan):
                removed.append(item)
                bar.advance(item.size_bytes / 1e6)
    except KeyboardInterrupt:
        stderr().print(f"stopped; {_freed(removed)}, the same command goes on from there", markup=False)
        raise
    if not as_json:
        stdout().print(_freed(removed), markup=False)


def _freed(removed: list[Item]) -> str:
    return f"{len(removed)} removed, {format_size(sum(item.size_bytes for item in removed))} freed"
