"""`windlass models family`, `promote` and `rollback`: the candidates of a run after it, and what an alias names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from windlass.errors import InvalidInputError
from windlass.registry import KeptCandidate, Promotion, Rollback, VersionInfo, registered_as
from windlass.registry import promote as promote_candidate
from windlass.registry import rollback as roll_back
from windlass.registry.names import is_alias
from windlass.schema import Section, format_size
from windlass_cli.console import figure, print_json, stdout, table
from windlass_cli.open_registry import open_registry, registry_uri

NO_ALIAS = "none"
_P95 = re.compile(r"latency_p95_batch(?P<batch_size>\d+)_ms")


class AliasRefusedError(InvalidInputError):
    """A word that no alias can be."""

    def __init__(self, alias: str) -> None:
        super().__init__(
            f"--alias {alias}: not an alias; use letters, digits, dashes and underscores; "
            "`latest` and `v1` are MLflow's own"
        )
        self.alias = alias


class FamilyRow(Section):
    """One candidate as the table shows it."""

    candidate: str
    winner: bool
    size_bytes: float | None
    metric: str
    quality: float | None
    latency_p95_ms: float | None
    memory_bytes: float | None
    versions: tuple[VersionInfo, ...]
    """It is registered as; the aliases stand in there."""
    fits: bool | None
    reason: str
    figures: dict[str, float]


def show_family(spec: str, root: str, tracking_uri: str | None, *, as_json: bool) -> None:
    """Every candidate of the run that a version comes from."""
    registry = open_registry(root, tracking_uri)
    found = registry.resolve(spec)
    family, versions = registry.family(found.name, found.version), registry.versions(found.name)
    rows = [_row(candidate, family.winner, versions) for candidate in family.candidates]
    if as_json:
        candidates = [row.model_dump(mode="json") for row in rows]
        print_json({"model": found.name, "version": found.version, "candidates": candidates})
        return
    batch_size = min((size for row in rows for size in _p95_by_batch_size(row.figures)), default=None)
    p95 = "p95" if batch_size is None else f"p95, batch {batch_size}"
    headings = ("candidate", "size", rows[0].metric, p95, "memory", "registered as", "verdict")
    stdout().print(f"the family of {found.name} version {found.version}", markup=False)
    stdout().print(table(headings, [_cells(row) for row in rows], right=frozenset({1, 2, 3, 4})))


def _row(candidate: KeptCandidate, winner: str, versions: Sequence[VersionInfo]) -> FamilyRow:
    figures = candidate.figures
    p95_ms = _p95_by_batch_size(figures)
    return FamilyRow(
        candidate=candidate.name,
        winner=candidate.name == winner,
        size_bytes=figures.get("size_bytes"),
        metric=candidate.metric,
        quality=figures.get(candidate.metric),
        latency_p95_ms=p95_ms[min(p95_ms)] if p95_ms else None,
        memory_bytes=figures.get("memory_bytes"),
        versions=tuple(registered_as(candidate, versions)),
        fits=candidate.fits,
        reason=candidate.reason,
        figures=figures,
    )


def _p95_by_batch_size(figures: Mapping[str, float]) -> dict[int, float]:
    matches = {name: _P95.fullmatch(name) for name in figures}
    return {int(match["batch_size"]): figures[name] for name, match in matches.items() if match}


def _cells(row: FamilyRow) -> tuple[str, ...]:
    return (
        row.candidate,
        "–" if row.size_bytes is None else format_size(row.size_bytes),
        "–" if row.quality is None else f"{row.quality:.4f}",
        "–" if row.latency_p95_ms is None else f"{row.latency_p95_ms:.3f} ms",
        "–" if row.memory_bytes is None else format_size(row.memory_bytes),
        "\n".join(_registered(version) for version in row.versions),
        f"✓ {row.reason}" if row.winner else row.reason,
    )


def _registered(version: VersionInfo) -> str:
    return f"version {version.version}" + (f" ({', '.join(version.aliases)})" if version.aliases else "")


def promote(
    name: str, candidate: str, *, version: int | None, alias: str, root: str, tracking_uri: str | None, as_json: bool
) -> None:
    """Register a candidate that its run did not choose, and let the alias name it."""
    wanted = None if alias == NO_ALIAS else _checked(alias)
    uri = registry_uri(root, tracking_uri)
    promotion = promote_candidate(uri, name, candidate, version=version, alias=wanted)
    if as_json:
        print_json(promotion.model_dump(mode="json"))
        return
    for line in _promoted(promotion):
        stdout().print(line, markup=False)


def _promoted(promotion: Promotion) -> list[str]:
    name, number = promotion.model, promotion.version
    if promotion.created:
        lines = [f"{promotion.candidate} of the family of version {promotion.parent} is now {name} version {number}"]
    else:
        lines = [f"{promotion.candidate} is {name} version {number} already"]
    if promotion.fits is False:
        lines.append(f"its run left it out: {promotion.reason}")
    if promotion.alias is not None:
        lines.append(_moved(name, promotion.alias, promotion.previous, number))
        if promotion.previous not in (None, number):
            lines.append(f"to go back: windlass rollback {name} --alias {promotion.alias}")
    return lines


def rollback(name: str, *, alias: str, to: int | None, root: str, tracking_uri: str | None, as_json: bool) -> None:
    """Let the alias name what it named before."""
    back = roll_back(registry_uri(root, tracking_uri), name, alias=_checked(alias), to=to)
    if as_json:
        print_json(back.model_dump(mode="json"))
        return
    for line in _rolled_back(back):
        stdout().print(line, markup=False)


def _rolled_back(back: Rollback) -> list[str]:
    lines = [f"version {each.version} {each.why} and is passed over" for each in back.skipped]
    lines.append(_moved(back.model, back.alias, back.previous, back.version))
    if back.previous not in (None, back.version):
        again = f"windlass rollback {back.model} --alias {back.alias}"
        lines.append(f"the same command again goes back to {back.previous}; {again} --to N goes to any version")
    return lines


def _moved(name: str, alias: str, previous: int | None, version: int) -> str:
    if previous == version:
        return f"{name}@{alias}: {version}, as before"
    return f"{name}@{alias}: {figure(previous) if previous is not None else 'none'} -> {version}"


def _checked(alias: str) -> str:
    if not is_alias(alias):
        raise AliasRefusedError(alias)
    return alias
