"""The report's charts: Vega-Lite specifications, each drawn once as SVG so that the page shows it without scripts.

Colours are CSS variables: the page's light, dark and print themes set them, and the value behind the comma is what an
SVG by itself is drawn with. Every mark that stands for a measurement carries a description of one line, which is its
tooltip, its text under keyboard focus and its name for a screen reader.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from windlass.evaluation.analysis.documents import Adversarial
from windlass.evaluation.documents import CalibrationBin, ResidualDecile
from windlass.evaluation.report.text import bounds, figure, metric_name, percent, sentence

INK, SOFT, RULE = "var(--ink, #1d1c1a)", "var(--soft, #5b5a55)", "var(--rule, #e3e2dc)"
SURFACE = "var(--surface, #ffffff)"
SERIES = ("var(--s1, #2468c8)", "var(--s2, #b45309)", "var(--s3, #0f766e)", "var(--s4, #7e3fb0)")
Layer = dict[str, Any]
"""A part of a Vega-Lite specification."""
_STATIC_WIDTH, _HEIGHT = 460, 280
VEGA_LITE = "6.4"
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"


@dataclass(frozen=True)
class Chart:
    """One chart: `spec` is what the page's runtime draws, `svg` the same drawn already."""

    key: str
    title: str
    description: str
    note: str | None
    """What the plot cannot show."""
    spec: Mapping[str, Any]
    svg: str | None = None
    """None for one that is only drawn when it is asked for."""


def finish(
    layers: Sequence[Layer],
    key: str,
    title: str,
    description: str,
    *,
    drawn: bool = True,
    note: str | None = None,
    **more: Any,
) -> Chart:
    """Give a chart the report's looks, and draw it.

    Args:
        layers: from the back to the front.
        more: of the whole specification, such as `params`.
    """
    import vl_convert

    spec: dict[str, Any] = {
        "$schema": f"https://vega.github.io/schema/vega-lite/v{VEGA_LITE}.json",
        "description": description,
        "background": "transparent",
        "height": _HEIGHT,
        "layer": list(layers),
        "config": _LOOKS,
        **more,
    }
    svg = vl_convert.vegalite_to_svg({**spec, "width": _STATIC_WIDTH}, vl_version=VEGA_LITE) if drawn else None
    live = {**spec, "width": "container", "autosize": {"type": "fit-x", "contains": "padding"}}
    return Chart(key=key, title=title, description=description, note=note, spec=live, svg=svg)


def layer(mark: str, values: Sequence[Mapping[str, Any]], encoding: Mapping[str, Any], **look: Any) -> Layer:
    """One layer. Only marks with a description in their encoding are spoken of; all others are decoration."""
    told = "description" in encoding
    look = {name: value for name, value in look.items() if value is not None}
    return {"data": {"values": list(values)}, "mark": {"type": mark, "aria": told, **look}, "encoding": dict(encoding)}


def number(field: str, **more: Any) -> dict[str, Any]:
    return {"field": field, "type": "quantitative", **more}


TOLD = {"field": "label", "type": "nominal"}
"""The channel `description`."""


_LOOKS: dict[str, Any] = {
    "font": _FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": SOFT,
        "titleColor": SOFT,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "gridColor": RULE,
        "domainColor": SOFT,
        "tickColor": RULE,
        "labelPadding": 6,
        "titlePadding": 10,
        "labelOverlap": True,
    },
    "axisY": {"domain": False, "ticks": False},
    "axisX": {"grid": False},
    "legend": {
        "labelColor": INK,
        "labelFontSize": 12,
        "title": None,
        "orient": "top",
        "symbolStrokeWidth": 2.5,
        "symbolSize": 300,
        "columns": 3,
    },
}


def learning_curves(history: Sequence[Mapping[str, Any]], metric: str, best_epoch: int) -> list[Chart]:
    """Loss and quality by epoch; none for fewer than two epochs."""
    if len(history) < 2:
        return []
    losses = [("train", "train_loss"), ("validation", "validation_loss")]
    charts = [
        _lines(
            [
                {"x": line["epoch"], "y": line[key], "series": name}
                for name, key in losses
                for line in history
                if line.get(key) is not None and math.isfinite(line[key])
            ],
            key="loss",
            title="Loss by epoch",
            x_title="epoch",
            y_title="loss",
            mark_x=best_epoch,
        )
    ]
    quality = [
        {"x": line["epoch"], "y": line["metric"], "series": "validation"}
        for line in history
        if line.get("metric") is not None
    ]
    if len(quality) > 1:
        name = metric_name(metric)
        title = f"{sentence(name)} by epoch, on validation"
        charts.append(
            _lines(quality, key="quality", title=title, x_title="epoch", y_title=name, mark_x=best_epoch, first=1)
        )
    return charts


def adversarial_curve(attacks: Adversarial, metric: str) -> Chart:
    """Quality over the strength of each attack: a colour for each variant, a dash for each method."""
    names = {"fgsm": "FGSM", "pgd": "PGD", "random": "by chance"}
    unit, y_title = attacks.attacks[0].unit, metric_name(metric)
    rows: list[dict[str, Any]] = [
        {
            "x": attack.strength,
            "y": degraded.quality.point,
            "variant": variant,
            "method": names[attack.method],
            "label": f"{variant}, {names[attack.method]} of {attack.strength:g} {unit}: "
            f"{y_title} {figure(degraded.quality.point)} ({bounds(degraded.quality)})",
        }
        for attack in attacks.attacks
        for variant, degraded in attack.by_variant.items()
    ]
    place = {
        "x": number(
            "x", title=f"largest change of a value, {unit}", scale={"nice": False, "zero": False}, axis={"tickCount": 8}
        ),
        "y": number("y", title=y_title, axis={"tickCount": 5}),
        "color": _by(
            "variant",
            list(dict.fromkeys(row["variant"] for row in rows)),
            SERIES,
            {"symbolType": "circle", "symbolSize": 90},
        ),
    }
    methods = list(dict.fromkeys(row["method"] for row in rows))
    dashed = {**place, "strokeDash": _by("method", methods, _DASHES, {"symbolType": "stroke", "orient": "bottom"})}
    title = f"{sentence(y_title)} under attack"
    return finish(
        [
            layer("line", rows, dashed, strokeWidth=2),
            layer("point", rows, {**place, "description": TOLD}, filled=True, size=40, opacity=1),
        ],
        "adversarial",
        title,
        f"{title}: colours are candidates, dashes are methods",
    )


def reliability(bins: Sequence[CalibrationBin]) -> Chart:
    """How often answers are right, by how sure the model was."""
    rows = [
        {
            "x": found.confidence,
            "y": found.accuracy,
            "rows": found.rows,
            "label": f"sure by {percent(found.confidence)}: right in {percent(found.accuracy)} of {found.rows:,} rows",
        }
        for found in bins
    ]
    low = min(min(found.confidence, found.accuracy) for found in bins)
    ends = [max(0.0, math.floor(low * 10 - 1e-9) / 10), 1.0]
    shares = {"scale": {"domain": ends}, "axis": {"format": ".0%", "tickCount": 5}}
    place = {
        "x": number("x", title="mean probability of the answer", **shares),
        "y": number("y", title="share that is right", **shares),
    }
    area = {"size": number("rows", scale={"range": [50, 360]}, legend=None), "description": TOLD}
    title = "Calibration: is it right as often as it is sure?"
    return finish(
        [
            layer("line", [{"x": end, "y": end} for end in ends], place, stroke=SOFT, strokeDash=[4, 4], strokeWidth=1),
            layer("line", rows, place, stroke=SERIES[0], strokeWidth=2),
            layer("point", rows, {**place, **area}, filled=True, fill=SERIES[0], stroke=SURFACE, opacity=1),
        ],
        "calibration",
        title,
        f"{title} On the dashed line it is. Larger dots stand for more rows.",
    )


def residuals(deciles: Sequence[ResidualDecile], target: str) -> Chart:
    """Bands of answer minus target over the answers, a band for each tenth of the rows."""
    rows = [
        {
            "place": index,
            "p5": decile.p5,
            "p50": decile.p50,
            "p95": decile.p95,
            "label": f"answers from {figure(decile.low)} to {figure(decile.high)}: median {figure(decile.p50)}, "
            f"90 % within {figure(decile.p5)} to {figure(decile.p95)}",
        }
        for index, decile in enumerate(deciles, start=1)
    ]
    x = {
        "field": "place",
        "type": "ordinal",
        "title": "tenth of the rows, lowest answers first",
        "axis": {"labelAngle": 0},
    }
    y_title = {"title": f"answer minus {target}", "axis": {"format": "~s", "tickCount": 6}}
    band = {"x": x, "y": number("p5", **y_title), "y2": {"field": "p95"}, "description": TOLD}
    title = "Answer minus target, by tenths of the answers"
    width = {"width": {"band": 0.6}, "cornerRadius": 4}
    return finish(
        [
            layer("bar", rows, band, fill=SERIES[0], fillOpacity=0.3, **width),
            layer("rule", [{"zero": 0}], {"y": number("zero")}, stroke=SOFT, strokeDash=[4, 4]),
            layer(
                "tick", rows, {"x": x, "y": number("p50", **y_title)}, color=SERIES[0], thickness=3, width={"band": 0.6}
            ),
        ],
        "residuals",
        title,
        f"{title}: the bands hold 90 % of the rows, the bars in them are medians",
    )


def _lines(
    rows: Sequence[Mapping[str, Any]],
    *,
    key: str,
    title: str,
    x_title: str,
    y_title: str,
    mark_x: float | None,
    first: int = 0,
) -> Chart:
    """Lines of several series with a point for each value; `mark_x` is marked by a rule."""
    series = list(dict.fromkeys(row["series"] for row in rows))
    step = x_title.split(",")[0]
    values = [{**row, "label": f"{row['series']}, {step} {row['x']:g}: {y_title} {figure(row['y'])}"} for row in rows]
    whole = all(float(row["x"]).is_integer() for row in rows)
    x = number(
        "x",
        title=x_title,
        scale={"nice": False, "zero": False},
        axis={"format": "d" if whole else "~g", "tickMinStep": int(whole)},
    )
    y = number("y", title=y_title, scale={"zero": False}, axis={"tickCount": 5})
    legend = {"symbolType": "stroke"} if len(series) > 1 else None
    place = {"x": x, "y": y, "color": _by("series", series, SERIES[first:], legend)}
    dashed = {**place, "strokeDash": _by("series", series, _DASHES, legend)}
    points = {"filled": True, "size": 34 if len(rows) <= 80 else 14, "opacity": 1}
    layers = [
        layer("line", values, dashed, strokeWidth=2),
        layer("point", values, {**place, "description": TOLD}, **points),
    ]
    if mark_x is not None:
        middle = (min(row["x"] for row in rows) + max(row["x"] for row in rows)) / 2
        side = {"align": "right", "dx": -6} if mark_x > middle else {"align": "left", "dx": 6}
        kept = [{"x": mark_x, "name": f"kept: {step} {mark_x:g}"}]
        text = {"x": number("x"), "text": {"field": "name"}, "y": {"value": 6}}
        layers.insert(0, layer("rule", kept, {"x": number("x")}, stroke=SOFT, strokeDash=[3, 3]))
        layers.append(layer("text", kept, text, fill=SOFT, fontSize=12, **side))
    return finish(layers, key, title, title)


_DASHES = ([1, 0], [5, 3], [2, 2])


def _by(field: str, names: Sequence[str], values: Sequence[Any], legend: Mapping[str, Any] | None) -> dict[str, Any]:
    """A scale from names to looks, which come again where there are more names."""
    looks = [values[index % len(values)] for index in range(len(names))]
    scale = {"domain": list(names), "range": looks}
    return {"field": field, "type": "nominal", "scale": scale, "sort": None, "legend": legend}
