"""Free the disk that a root takes for what nothing needs.

Needed is what these refer to, directly or through each other: runs in progress, the newest runs, and the runs whose
versions an alias names. Beside that everything stays that was made or used

- within the last hour;
- since a run that is kept and has not succeeded began: it may take any result that it finds, and writes down which ones
  only when a step has ended;
- last while a run was at work that is kept: steps also make what their results do not name, such as a network between
  two others;
- within the last day, of inputs: a run is opened when all of its own are uploaded;
- within the last week, of unfinished work: the command that left it may be typed again.

A run record goes before what it refers to, and a result before what it was made from. Each goes at once for readers, so
that a process that is stopped in between leaves nothing half-removed, and the next one goes on.

MLflow's runs, versions and artifacts are never touched, nor how often a test split was read, nor the gateway's cache.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath

from windlass.recipe.needed import Folders, find_aliased, find_needed, read_registrations
from windlass.recipe.runs import RunRecord, list_runs
from windlass.schema import Section
from windlass.storage import MANIFEST_NAME, StoredFile, Workspace

SAFE_AGE_S = 3600.0
_DAY_S = 86400.0
RUNS, INPUTS, UNFINISHED = "runs", "inputs", "unfinished work"
_SAFE_AGES_S = {INPUTS: _DAY_S, UNFINISHED: 7 * _DAY_S}
"""Of other kinds it is `SAFE_AGE_S`."""
_DEPTH = {"steps": 3, "inputs": 2, "runs": 2, "jobs": 3, "work": 3, "outgoing": 4}
"""How many parts the name of a folder has that is removed as a whole, by its first part."""
_ORDER = (
    RUNS, "register", "select", "analyses", "evaluate", "compress", "measurements", "variants", "networks", "train",
    "baselines", "prepare", INPUTS,
)  # fmt: skip
"""What refers to others goes before them; kinds that are not listed go after the runs."""


class Item(Section):
    """A folder that nothing needs."""

    kind: str
    """`runs`, `inputs`, `unfinished work`, or the step that published it."""
    name: str
    size_bytes: int
    used_s: float
    """When it was last made or used, in seconds since 1970."""
    on_this_machine: bool
    """Below the local directory, not below a root elsewhere."""


class KeptRun(Section):
    run_id: str
    why: str


class PrunePlan(Section):
    """What would be removed, in its order, and why which runs stay."""

    root: str
    items: tuple[Item, ...]
    kept_runs: tuple[KeptRun, ...]
    kept_bytes: int

    @property
    def size_bytes(self) -> int:
        return sum(item.size_bytes for item in self.items)


def plan_pruning(
    workspace: Workspace,
    *,
    tracking_uri: str,
    keep_runs: int,
    older_than_s: float | None = None,
    now_s: float | None = None,
) -> PrunePlan:
    """Find what nothing needs; nothing is removed.

    Args:
        tracking_uri: the registry whose aliases count; others that runs of this root registered in are asked too.
        keep_runs: the newest runs, beside those in progress, that stay with all that they refer to.
        older_than_s: what is younger stays as well.
        now_s: seconds since 1970; default: the present.

    Raises:
        AliasesUnknownError: a registry does not answer.
        InvalidInputError: a run was written by another version of Windlass.
    """
    now_s = time.time() if now_s is None else now_s
    folders = _by_folder(workspace.list_files(f"{first}/") for first in _DEPTH)
    records = list_runs(workspace)
    aliased = find_aliased(read_registrations(workspace, folders, records), tracking_uri)
    kept = _kept_runs(records, aliased, keep_runs, None if older_than_s is None else now_s - older_than_s)
    needed = find_needed(workspace, folders, kept)
    spans = [_span(record) for record in records if record.run_id in kept]

    def is_unneeded(item: Item) -> bool:
        if item.kind == RUNS:
            return item.name.removeprefix("runs/") not in kept and item.used_s < now_s - SAFE_AGE_S
        if item.name in needed or item.name.replace("jobs/", "steps/") in needed:
            return False
        if any(begin <= item.used_s <= end for begin, end in spans):
            return False
        return item.used_s < now_s - max(_SAFE_AGES_S.get(item.kind, SAFE_AGE_S), older_than_s or 0.0)

    ours = {record.run_id for record in records}
    items = [*_items(folders, workspace, ours), *_items_here(workspace, ours)]
    unneeded = sorted(filter(is_unneeded, items), key=_order)
    return PrunePlan(
        root=workspace.uri,
        items=tuple(unneeded),
        kept_runs=tuple(KeptRun(run_id=run_id, why=why) for run_id, why in kept.items()),
        kept_bytes=sum(item.size_bytes for item in items) - sum(item.size_bytes for item in unneeded),
    )


def remove_unneeded(workspace: Workspace, plan: PrunePlan) -> Iterator[Item]:
    """Remove what a plan names, unless it was used since; yields each thing once it is gone."""
    here = Workspace(workspace.local)
    for item in plan.items:
        place = here if item.on_this_machine else workspace
        if place.remove_unused(item.name, item.used_s, head="run.json" if item.kind == RUNS else MANIFEST_NAME):
            yield item


def _kept_runs(
    records: Iterable[RunRecord], aliased: Mapping[str, str], keep_runs: int, oldest_s: float | None
) -> dict[str, str]:
    """Ids of the runs that stay, and why; of `records` with the newest first."""
    kept: dict[str, str] = {}
    newest_left = keep_runs
    for record in records:
        if record.status == "running":
            kept[record.run_id] = "in progress"
            continue
        if record.run_id in aliased:
            kept[record.run_id] = f"{aliased[record.run_id]} comes from it"
        elif newest_left > 0:
            kept[record.run_id] = f"one of the newest {keep_runs}"
        elif oldest_s is not None and record.started.timestamp() >= oldest_s:
            kept[record.run_id] = "young enough"
        newest_left -= 1
    return kept


def _span(record: RunRecord) -> tuple[float, float]:
    """While which a run may have taken results: until it is done, or for as long as it may go on."""
    begin = record.started.timestamp()
    if record.status == "succeeded" and record.finished is not None:
        return begin, record.finished.timestamp()
    return begin - SAFE_AGE_S, math.inf


def _by_folder(listings: Iterable[Iterable[StoredFile]]) -> Folders:
    folders: dict[str, list[StoredFile]] = {}
    for file in (file for files in listings for file in files):
        parts = PurePosixPath(file.name).parts
        depth = _DEPTH[parts[0]] - (parts[:2] == ("outgoing", "inputs"))
        if len(parts) > depth:
            folders.setdefault("/".join(parts[:depth]), []).append(file)
    return folders


def _items(folders: Folders, workspace: Workspace, ours: Iterable[str]) -> Iterator[Item]:
    """Of the root. On a local one, a run without a record may be that of a root elsewhere."""
    shared = workspace.uri == str(workspace.local)
    for folder, files in folders.items():
        kind = _kind(folder, files)
        if kind != RUNS or not shared or folder.removeprefix("runs/") in ours:
            yield _item(kind, folder, files, on_this_machine=False)


def _items_here(workspace: Workspace, ours: Iterable[str]) -> Iterator[Item]:
    """Of the local directory, where the root is elsewhere: logs of its runs, and unfinished work."""
    if workspace.uri == str(workspace.local):
        return
    here = Workspace(workspace.local)
    folders = _by_folder(here.list_files(f"{first}/") for first in ("runs", "work", "outgoing"))
    for folder, files in folders.items():
        kind = _kind(folder, files)
        if kind != RUNS or folder.removeprefix("runs/") in ours:
            yield _item(kind, folder, files, on_this_machine=True)


def _kind(folder: str, files: Iterable[StoredFile]) -> str:
    first, second, *_ = folder.split("/")
    if first == "runs":
        return RUNS
    published = any(file.name == f"{folder}/{MANIFEST_NAME}" for file in files)
    if not published or first not in ("steps", "inputs"):
        return UNFINISHED
    return INPUTS if first == "inputs" else second


def _item(kind: str, folder: str, files: Iterable[StoredFile], *, on_this_machine: bool) -> Item:
    return Item(
        kind=kind,
        name=folder,
        size_bytes=sum(file.size_bytes for file in files),
        used_s=max(file.modified_s for file in files),
        on_this_machine=on_this_machine,
    )


def _order(item: Item) -> tuple[float, float]:
    """By kind; within one the youngest first, for what is made from another is younger."""
    return (_ORDER.index(item.kind) if item.kind in _ORDER else 0.5), -item.used_s
