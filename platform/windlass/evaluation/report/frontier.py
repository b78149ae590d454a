"""Quality over what a candidate costs: every candidate with its interval, the budget, and the frontier."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from windlass.evaluation.documents import Evaluation, Measurement, Verdict
from windlass.evaluation.report.charts import (
    INK,
    SERIES,
    SOFT,
    SURFACE,
    TOLD,
    Chart,
    Layer,
    finish,
    layer,
    number,
)
from windlass.evaluation.report.text import bounds, count, figure, joules, metric_name, milliseconds, sentence
from windlass.schema import format_size

_SIZE_LABELS = (
    "datum.value >= 1e9 ? format(datum.value / 1e9, '~g') + ' GB' : datum.value >= 1e6 ? "
    "format(datum.value / 1e6, '~g') + ' MB' : format(datum.value / 1e3, '~g') + ' KB'"
)
_TIME_LABELS = "datum.value < 1 ? format(datum.value * 1e3, '.4~g') + ' µs' : format(datum.value, '.4~g') + ' ms'"
_PLAIN_LABELS = "format(datum.value, '~s')"


@dataclass(frozen=True)
class CostAxis:
    """One cost of a candidate: the horizontal axis of a plot."""

    key: str
    title: str
    value: Callable[[Measurement], float | None]
    shown: Callable[[float], str]
    labels: str
    limit: float | None = None
    """Of the budget."""
    spread: Callable[[Measurement], float] = lambda _: 0.0
    """Half the relative width of the figure's interval."""


def cost_axes(evaluation: Evaluation, limits: dict[str, float], batch_size: int) -> list[CostAxis]:
    """Size, then latency as the budget bounds it, then all else that was measured of every candidate.

    Args:
        limits: what the budget allows, by its keys.
        batch_size: at which the budget bounds latency.
    """
    axes = [CostAxis("size", "size", lambda m: m.size_bytes, format_size, _SIZE_LABELS, limits.get("max_size"))]
    sizes = [latency.batch_size for latency in evaluation.measurements[0].latency]
    for size in sorted(sizes, key=lambda size: (size != batch_size, size)):
        for name in ("p95", "p50"):
            limit = limits.get(f"max_latency_{name}_ms") if size == batch_size else None
            axes.append(_latency_axis(size, name, limit))
    axes += [
        CostAxis(
            "memory", "peak memory", lambda m: m.memory.peak_bytes, format_size, _SIZE_LABELS, limits.get("max_memory")
        ),
        CostAxis("macs", "multiplications a row", lambda m: m.cost.macs_per_row, count, _PLAIN_LABELS),
        CostAxis("parameters", "parameters", lambda m: m.cost.parameters, count, _PLAIN_LABELS),
        CostAxis(
            "energy",
            f"energy of 1,000 rows, batch {batch_size}",
            _energy(batch_size),
            joules,
            "format(datum.value, '~g') + ' J'",
        ),
    ]
    return [axis for axis in axes if all(axis.value(m) is not None for m in evaluation.measurements)]


def _latency_axis(batch_size: int, name: str, limit: float | None) -> CostAxis:
    def measured(measurement: Measurement) -> float | None:
        found = next((entry for entry in measurement.latency if entry.batch_size == batch_size), None)
        return None if found is None else found.p95_ms if name == "p95" else found.p50_ms

    def spread(measurement: Measurement) -> float:
        found = next(entry for entry in measurement.latency if entry.batch_size == batch_size)
        return found.p95_spread if name == "p95" else found.spread

    return CostAxis(
        f"{name}-batch-{batch_size}",
        f"latency {name}, batch {batch_size}",
        measured,
        milliseconds,
        _TIME_LABELS,
        limit,
        spread,
    )


def _energy(batch_size: int) -> Callable[[Measurement], float | None]:
    def measured(measurement: Measurement) -> float | None:
        found = (entry for entry in measurement.cost.per_1000_rows if entry.batch_size == batch_size)
        return next((entry.energy.joules for entry in found if entry.energy is not None), None)

    return measured


def frontier(
    evaluation: Evaluation,
    verdict: Verdict,
    axis: CostAxis,
    floor: float | None,
    *,
    higher_is_better: bool,
    drawn: bool = True,
) -> Chart:
    """One plot of all candidates.

    Args:
        floor: the worst quality that the budget allows, None without such a limit.
        higher_is_better: else the vertical axis is turned over: up is always better.
        drawn: whether it is drawn already, or only when somebody asks for it.
    """
    metric = metric_name(evaluation.measurements[0].metric)
    points = _points(evaluation, verdict, axis)
    x_ends = _log_domain([point[end] for point in points for end in ("left", "right")], axis.limit)
    y_ends = _domain([point[end] for point in points for end in ("low", "high")], floor)
    x_scale = {"type": "log", "domain": x_ends, "nice": False}
    x = number("cost", title=axis.title, scale=x_scale, axis={"values": log_ticks(*x_ends), "labelExpr": axis.labels})
    y_scale = {"domain": y_ends, "nice": False, "zero": False, "reverse": not higher_is_better}
    y = number("quality", title=metric, scale=y_scale, axis={"tickCount": 5})
    place = {"x": x, "y": y}
    whisker = {"stroke": SOFT, "strokeWidth": 1.5}
    title = f"{sentence(metric)} over {axis.title}"
    return finish(
        [
            *_budget(axis, floor, x_ends, y_ends, higher_is_better),
            layer(
                "line", _best(points, higher_is_better), place, interpolate="step-after", stroke=SERIES[0], opacity=0.6
            ),
            layer("rule", points, {"x": x, "y": number("low"), "y2": {"field": "high"}}, **whisker),
            layer("rule", points, {"y": y, "x": number("left"), "x2": {"field": "right"}}, **whisker),
            {**layer("point", points, {**place, **_dots()}, filled=True, opacity=1), "params": [_ZOOM]},
            layer("text", points, {**place, **_numbers()}, fontSize=11, fontWeight=600),
        ],
        f"frontier-{axis.key}",
        title,
        f"{title}, on validation; up and left is better",
        drawn=drawn,
        note=_off_the_plot(axis, floor, x_ends, y_ends),
        params=[{"name": "active", "value": ""}],
    )


_ZOOM = {
    "name": "zoom",
    "select": {
        "type": "interval",
        "zoom": "wheel![event.shiftKey]",
        "translate": "[pointerdown[event.shiftKey], window:pointerup] > window:pointermove!",
    },
    "bind": "scales",
}
"""With Shift only: the wheel by itself scrolls the page."""
_STATES = {"chosen": SERIES[0], "inside the budget": SOFT, "outside": SURFACE}


def _dots() -> dict[str, Any]:
    """A candidate under the pointer, here or in another chart or table, is `active` in all of them."""
    fills = {"domain": list(_STATES), "range": list(_STATES.values())}
    return {
        "fill": {"field": "state", "type": "nominal", "scale": fills, "legend": None},
        "stroke": _if_active(INK, SOFT),
        "strokeWidth": _if_active(3, 1.25),
        "size": _if_active(520, 340),
        "description": TOLD,
    }


def _if_active(value: object, otherwise: object) -> dict[str, Any]:
    return {"condition": {"test": "datum.candidate === active", "value": value}, "value": otherwise}


def _numbers() -> dict[str, Any]:
    fill = {"condition": {"test": "datum.state === 'outside'", "value": INK}, "value": SURFACE}
    return {"text": {"field": "number"}, "fill": fill}


def _points(evaluation: Evaluation, verdict: Verdict, axis: CostAxis) -> list[dict[str, Any]]:
    fits = {candidate.candidate: candidate.fits for candidate in verdict.candidates}
    points = []
    for place, measurement in enumerate(evaluation.measurements, start=1):
        name, quality, cost = measurement.candidate, measurement.quality[measurement.metric], axis.value(measurement)
        assert cost is not None
        state = "chosen" if name == verdict.winner else "inside the budget" if fits[name] else "outside"
        spread = axis.spread(measurement)
        answered = f"{metric_name(measurement.metric)} {figure(quality.point)} ({bounds(quality)})"
        points.append(
            {
                "candidate": name,
                "number": str(place),
                "cost": cost,
                "left": cost * (1 - spread),
                "right": cost * (1 + spread),
                "quality": quality.point,
                "low": quality.low,
                "high": quality.high,
                "state": state,
                "label": f"{place} {name}: {answered}, {axis.shown(cost)}, {state}",
            }
        )
    return points


def _best(points: Sequence[dict[str, Any]], higher_is_better: bool) -> list[dict[str, Any]]:
    """Those that no other one beats in both: the frontier, from the cheapest on."""
    sign = 1 if higher_is_better else -1
    best: list[dict[str, Any]] = []
    for point in sorted(points, key=lambda point: (point["cost"], -sign * point["quality"])):
        if not best or sign * point["quality"] > sign * best[-1]["quality"]:
            best.append({"cost": point["cost"], "quality": point["quality"]})
    return best


def _budget(
    axis: CostAxis, floor: float | None, x_ends: list[float], y_ends: list[float], higher_is_better: bool
) -> list[Layer]:
    """The part of the plot that the budget allows, and its edges."""
    if (axis.limit is None and floor is None) or (axis.limit is not None and axis.limit <= x_ends[0]):
        return []
    worst, best = y_ends if higher_is_better else reversed(y_ends)
    corner = {
        "left": x_ends[0],
        "right": min(axis.limit or math.inf, x_ends[1]),
        "bottom": min(max(worst if floor is None else floor, y_ends[0]), y_ends[1]),
        "top": best,
    }
    sides = {"x": number("left"), "x2": {"field": "right"}, "y": number("bottom"), "y2": {"field": "top"}}
    parts = [layer("rect", [corner], sides, fill=_GREEN, fillOpacity=0.09, clip=True)]
    edge = {"stroke": _GREEN, "strokeDash": [5, 4], "strokeWidth": 1.25, "clip": True}
    if axis.limit is not None and axis.limit <= x_ends[1]:
        parts.append(layer("rule", [{"edge": axis.limit}], {"x": number("edge")}, **edge))
    if floor is not None and y_ends[0] <= floor <= y_ends[1]:
        parts.append(layer("rule", [{"edge": floor}], {"y": number("edge")}, **edge))
    return parts


def _off_the_plot(axis: CostAxis, floor: float | None, x_ends: list[float], y_ends: list[float]) -> str | None:
    """Limits that are too far away to be drawn."""
    told = []
    if axis.limit is not None and not x_ends[0] < axis.limit <= x_ends[1]:
        side = "left" if axis.limit <= x_ends[0] else "right"
        told.append(f"{axis.title} of at most {axis.shown(axis.limit)} lies to the {side}")
    if floor is not None and not y_ends[0] <= floor <= y_ends[1]:
        told.append(f"quality of {figure(floor)} lies {'above' if floor > y_ends[1] else 'below'}")
    return f"Of the budget, {' and '.join(told)} of what is shown." if told else None


_GREEN = "var(--good, #17743f)"


def _domain(values: Sequence[float], limit: float | None) -> list[float]:
    """Room around the values, and around a limit that is not far from them."""
    low, high = min(values), max(values)
    width = (high - low) or abs(high) * 0.05 or 1.0
    if limit is not None and low - width <= limit <= high + width:
        low, high = min(low, limit), max(high, limit)
    room = 0.12 * ((high - low) or width)
    return [low - room, high + room]


def _log_domain(values: Sequence[float], limit: float | None) -> list[float]:
    tiny = min(value for value in values if value > 0)
    low, high = math.log(tiny), math.log(max(values))
    if limit is not None and low - 2 <= math.log(limit) <= high + 2:
        low, high = min(low, math.log(limit)), max(high, math.log(limit))
    room = 0.12 * (high - low) or 0.2
    return [math.exp(low - room), math.exp(high + room)]


def log_ticks(low: float, high: float) -> list[float]:
    """Round values between the two: 1, 2, 5, 10…, or equal round steps where the two are close to each other."""
    powers = [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    for factors in ((1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        ticks = [factor * power for power in powers for factor in factors if low <= factor * power <= high]
        if len(ticks) >= 4:
            return ticks[:: max(1, len(ticks) // 6)]
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return [index * step for index in range(math.ceil(low / step), math.floor(high / step) + 1)]
