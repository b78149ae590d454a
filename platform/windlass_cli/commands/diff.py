"""`windlass models diff`: two versions side by side."""

from __future__ import annotations

import datetime
from collections.abc import Iterable

from windlass.registry.comparing import (
    Figure,
    FigurePair,
    ValuePair,
    VersionComparison,
    VersionSummary,
    compare_versions,
)
from windlass.schema import format_size
from windlass_cli.console import figure, print_json, stdout, table
from windlass_cli.open_registry import open_registry

_ABSENT = "–"


def show_diff(name: str, a: str, b: str, root: str, tracking_uri: str | None, *, as_json: bool) -> None:
    """What breaks callers first, then the figures, then how each was made.

    Args:
        a, b: a number, or an alias behind an @.
    """
    registry = open_registry(root, tracking_uri)
    numbers = [registry.resolve(f"{name}{which if which.startswith('@') else f'/{which}'}").version for which in (a, b)]
    comparison = compare_versions(registry, name, *numbers)
    if as_json:
        print_json(comparison.model_dump(mode="json"))
    else:
        _print(comparison)


def _print(comparison: VersionComparison) -> None:
    console, sides = stdout(), (f"version {comparison.a.version}", f"version {comparison.b.version}")
    if comparison.breaking:
        console.print(f"[bold]breaks callers of {sides[0]}[/bold]")
        for change in comparison.breaking:
            console.print(f"  {change}", markup=False)
    else:
        console.print("the same rows in, the same kind of answers out")
    console.print(table(("", *sides), _origin(comparison.a, comparison.b)))
    figures = [_figure_row(pair) for pair in comparison.figures]
    console.print(table(("measured", *sides, "change"), figures, right=frozenset({1, 2, 3})))
    for pair in comparison.measured:
        console.print(f"note: measured with {pair.name} {pair.a or _ABSENT}, and {pair.b or _ABSENT}", markup=False)
    if comparison.recipe is None:
        console.print("the recipe of one is not known: its run is gone from MLflow")
    elif comparison.recipe:
        console.print(table(("recipe", *sides), _values(comparison.recipe)))
    else:
        console.print("the same recipe")


def _origin(a: VersionSummary, b: VersionSummary) -> list[tuple[str, ...]]:
    described = [_describe(each) for each in (a, b)]
    return [(name, described[0][name], described[1][name]) for name in described[0]]


def _describe(version: VersionSummary) -> dict[str, str]:
    created = datetime.datetime.fromtimestamp(version.created_s).astimezone()
    return {
        "aliases": ", ".join(version.aliases) or "none",
        "candidate": version.candidate,
        "methods": ", ".join(version.methods) or "none",
        "registered": f"{created:%Y-%m-%d %H:%M}",
        "recipe": version.recipe or _ABSENT,
        "dataset": (version.dataset or _ABSENT)[:12],
        "made from": (version.parent or _ABSENT)[:24],
        "MLflow run": version.run_id[:12],
    }


def _figure_row(pair: FigurePair) -> tuple[str, ...]:
    return pair.name.replace("/", " "), _shown(pair.name, pair.a), _shown(pair.name, pair.b), _change(pair)


def _shown(name: str, value: Figure | None) -> str:
    if value is None:
        return _ABSENT
    if value.low is not None and value.high is not None:
        return f"{figure(value.point)} [{figure(value.low)}, {figure(value.high)}]"
    if name.endswith("_bytes"):
        return format_size(value.point)
    return f"{value.point:.3f} ms" if name.endswith("_ms") else figure(value.point)


def _change(pair: FigurePair) -> str:
    if pair.a is None or pair.b is None:
        return _ABSENT
    if pair.a.low is not None or not pair.a.point:
        return f"{pair.b.point - pair.a.point:+.4g}"
    return f"{pair.b.point / pair.a.point - 1:+.1%}"


def _values(pairs: Iterable[ValuePair]) -> list[tuple[str, ...]]:
    return [(pair.name, pair.a or _ABSENT, pair.b or _ABSENT) for pair in pairs]
