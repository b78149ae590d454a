"""Two versions of a model side by side: what breaks callers, what was measured, how each was made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from windlass.registry.bundle import MEASUREMENT_NAME
from windlass.registry.reader import Registry
from windlass.schema import Section
from windlass.variants.signature import Signature
from windlass.variants.variant import VARIANT_NAME, Variant

_NO_FIGURES = frozenset({"format_version", "rows", "threads", "workers", "interpreter_bytes", "runs", "batch_size"})
_CONDITIONS = ("machine", "device", "threads", "workers", "rows")
_NOT_OF_THE_RECIPE = frozenset({"winner"})


class Figure(Section):
    """A number that was measured, with its confidence interval where it has one."""

    point: float
    low: float | None = None
    high: float | None = None


class FigurePair(Section):
    """One figure of both versions, None where only one has it."""

    name: str
    a: Figure | None
    b: Figure | None


class ValuePair(Section):
    """A value that differs, None where only one version has it."""

    name: str
    a: str | None
    b: str | None


class VersionSummary(Section):
    """Where one of the two comes from."""

    version: int
    aliases: tuple[str, ...]
    created_s: float
    candidate: str
    methods: tuple[str, ...]
    recipe: str | None
    dataset: str | None
    parent: str | None
    """The trained model by digest; of a promoted candidate, the version whose family it comes from."""
    run_id: str


class VersionComparison(Section):
    """What differs between version `a` and version `b`."""

    model: str
    a: VersionSummary
    b: VersionSummary
    breaking: tuple[str, ...]
    """What a caller of `a` notices when `b` answers."""
    figures: tuple[FigurePair, ...]
    measured: tuple[ValuePair, ...]
    """Circumstances of the measurements that differ: where they do, latencies do not compare."""
    recipe: tuple[ValuePair, ...] | None
    """Values of the recipes that differ; None if the run of one is gone."""


def compare_versions(registry: Registry, name: str, a: int, b: int) -> VersionComparison:
    """Read both versions, verified but without their models, and compare them.

    Raises:
        ModelNotFoundError, VersionNotFoundError
        UnsafeVersionError: one is not ours, or was changed.
    """
    read = [_read(registry, name, version) for version in (a, b)]
    summaries = [_summary(registry, name, version, variant) for version, (variant, _) in zip((a, b), read, strict=True)]
    (variant_a, measurement_a), (variant_b, measurement_b) = read
    return VersionComparison(
        model=name,
        a=summaries[0],
        b=summaries[1],
        breaking=tuple(breaking_changes(variant_a.signature, variant_b.signature)),
        figures=tuple(_pairs(figures_of(measurement_a), figures_of(measurement_b))),
        measured=tuple(_differing(_conditions(measurement_a), _conditions(measurement_b))),
        recipe=_recipe_changes(registry, summaries[0].run_id, summaries[1].run_id),
    )


def breaking_changes(a: Signature, b: Signature) -> Iterator[str]:
    """What a caller that sends rows for `a` and reads answers of `a` notices when `b` is asked instead."""
    if a.form == "images" or b.form == "images":
        yield from _image_changes(a, b)
    else:
        yield from _column_changes(a, b)
    if (a.class_names is None) != (b.class_names is None):
        kinds = {True: "a number", False: "a class with probabilities"}
        yield f"the answer is {kinds[b.class_names is None]} instead of {kinds[a.class_names is None]}"
    elif a.class_names is not None and b.class_names is not None:
        yield from _class_changes(a.class_names, b.class_names)


def _image_changes(a: Signature, b: Signature) -> Iterator[str]:
    if a.form != b.form:
        forms = ["an image" if each.form == "images" else "a row of a table" for each in (a, b)]
        yield f"it takes {forms[1]} instead of {forms[0]}"
    elif a.image_shape != b.image_shape:
        shapes = [" × ".join(map(str, each.image_shape)) for each in (a, b)]
        yield f"images are {shapes[1]} instead of {shapes[0]} (height × width × channels)"


def _column_changes(a: Signature, b: Signature) -> Iterator[str]:
    types_a = {column.name: column.type for column in a.columns or ()}
    types_b = {column.name: column.type for column in b.columns or ()}
    for column in (column for column in types_a if column not in types_b):
        yield f"column {column!r} is gone: a row that has it is refused"
    for column in (column for column in types_b if column not in types_a):
        yield f"column {column!r} is new: a row without it is refused"
    for column in (column for column in types_a if types_b.get(column, types_a[column]) != types_a[column]):
        yield f"column {column!r} is a {types_b[column]} instead of a {types_a[column]}"
    if types_a.keys() == types_b.keys() and a.column_names != b.column_names:
        yield "the columns stand in another order: rows that are lists mean something else"


def _class_changes(a: tuple[str, ...], b: tuple[str, ...]) -> Iterator[str]:
    for gone in (name for name in a if name not in b):
        yield f"class {gone!r} is gone"
    for new in (name for name in b if name not in a):
        yield f"class {new!r} is new"
    if a != b and sorted(a) == sorted(b):
        yield "the classes stand in another order, and so do their probabilities"


def figures_of(measurement: Mapping[str, Any]) -> dict[str, Figure]:
    """The figures of a measurement.json of any version, by name: `quality/accuracy`, `latency/batch 1/p95_ms`.

    A figure is a number or an interval, at the top, in an object there, or in a list of objects by batch size.
    """
    found: dict[str, Figure] = {}
    for name, value in measurement.items():
        if (figure := _figure(value)) is not None:
            found |= {} if name in _NO_FIGURES else {name: figure}
        elif isinstance(value, dict):
            found |= _figures_in(value, name)
        elif isinstance(value, list):
            for entry in value:
                if isinstance(entry, dict) and "batch_size" in entry:
                    found |= _figures_in(entry, f"{name}/batch {entry['batch_size']}")
    return found


def _figures_in(group: Mapping[str, Any], prefix: str) -> dict[str, Figure]:
    figures = {name: _figure(value) for name, value in group.items() if name not in _NO_FIGURES}
    return {f"{prefix}/{name}": figure for name, figure in figures.items() if figure is not None}


def _figure(value: Any) -> Figure | None:
    if isinstance(value, dict) and {"point", "low", "high"} <= value.keys():
        return Figure(point=value["point"], low=value["low"], high=value["high"])
    return Figure(point=value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _read(registry: Registry, name: str, version: int) -> tuple[Variant, dict[str, Any]]:
    documents = registry.read_documents(name, version, (VARIANT_NAME, MEASUREMENT_NAME))
    measurement = json.loads(documents[MEASUREMENT_NAME])
    assert isinstance(measurement, dict)
    return Variant.model_validate_json(documents[VARIANT_NAME]), measurement


def _summary(registry: Registry, name: str, version: int, variant: Variant) -> VersionSummary:
    info = registry.version(name, version)
    return VersionSummary(
        version=version,
        aliases=info.aliases,
        created_s=info.created_s,
        candidate=variant.name,
        methods=variant.origin.methods,
        recipe=info.tags.get("windlass.recipe"),
        dataset=info.tags.get("windlass.dataset"),
        parent=info.tags.get("windlass.parent"),
        run_id=info.run_id,
    )


def _pairs(a: Mapping[str, Figure], b: Mapping[str, Figure]) -> Iterator[FigurePair]:
    for name in dict.fromkeys((*a, *b)):
        yield FigurePair(name=name, a=a.get(name), b=b.get(name))


def _conditions(measurement: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(measurement[name]) for name in _CONDITIONS if name in measurement}


def _recipe_changes(registry: Registry, run_a: str, run_b: str) -> tuple[ValuePair, ...] | None:
    if run_a == run_b:
        return ()
    runs = [registry.run(run_id) if run_id else None for run_id in (run_a, run_b)]
    if runs[0] is None or runs[1] is None:
        return None
    return tuple(
        pair for pair in _differing(runs[0].parameters, runs[1].parameters) if pair.name not in _NOT_OF_THE_RECIPE
    )


def _differing(a: Mapping[str, str], b: Mapping[str, str]) -> Iterator[ValuePair]:
    for name in sorted({*a, *b}):
        if a.get(name) != b.get(name):
            yield ValuePair(name=name, a=a.get(name), b=b.get(name))
