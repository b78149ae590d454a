"""The report's charts as inline SVG. Colors are classes, so that the page's light and dark themes set them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from windlass.evaluation.documents import Evaluation
from windlass.schema import format_size

_WIDTH, _HEIGHT = 440, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 14, 40


@dataclass(frozen=True)
class _Axis:
    """A linear scale from values to pixels, with round ticks."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        step = _round_step((self.high - self.low) / count)
        first = math.ceil(self.low / step - 1e-9)
        return [index * step for index in range(first, math.floor(self.high / step + 1e-9) + 1)]


def learning_curve(history: Sequence[dict[str, object]]) -> str:
    """Training and validation loss by epoch; empty for fewer than two epochs."""
    if len(history) < 2:
        return ""
    series = {
        name: [(_number(line["epoch"]), _number(line[key])) for line in history if line.get(key) is not None]
        for name, key in (("train", "train_loss"), ("validation", "validation_loss"))
    }
    points = [point for line in series.values() for point in line if math.isfinite(point[1])]
    x = _axis([epoch for epoch, _ in points], horizontal=True, pad=0)
    y = _axis([0.0, *(loss for _, loss in points)], horizontal=False)
    body = [_grid(x, y, "epoch", lambda value: f"{value:g}", lambda value: f"{value:g}")]
    for index, (name, line) in enumerate(series.items()):
        if line:
            path = " ".join(f"{x.at(epoch):.1f},{y.at(loss):.1f}" for epoch, loss in line)
            body.append(f'<polyline class="line s{index + 1}" points="{path}"/>')
            for epoch, loss in line:
                title = f"{name}, epoch {epoch:g}: {loss:.4g}"
                body.append(_dot(x.at(epoch), y.at(loss), f"s{index + 1}", title, radius=3))
    return _svg(body, "Loss by epoch, on train and on validation")


def size_and_quality(evaluation: Evaluation, winner: str | None) -> str:
    """Every candidate by size and main metric, with its interval; empty for a single candidate."""
    if len(evaluation.measurements) < 2:
        return ""
    quality = [measurement.quality[measurement.metric] for measurement in evaluation.measurements]
    x = _axis([0.0, *(m.size_bytes for m in evaluation.measurements)], horizontal=True)
    y = _axis([bound for interval in quality for bound in (interval.low, interval.high)], horizontal=False)
    metric = evaluation.measurements[0].metric
    body = [_grid(x, y, "size", format_size, lambda value: f"{value:g}")]
    for measurement, interval in zip(evaluation.measurements, quality, strict=True):
        left, top = x.at(measurement.size_bytes), y.at(interval.point)
        kind = "s1" if measurement.candidate == winner else "other"
        title = f"{measurement.candidate}: {metric} {interval.point:.4f}, {format_size(measurement.size_bytes)}"
        body.append(
            f'<line class="whisker {kind}" x1="{left:.1f}" x2="{left:.1f}" '
            f'y1="{y.at(interval.low):.1f}" y2="{y.at(interval.high):.1f}"/>'
        )
        body.append(_dot(left, top, kind, title, radius=5))
        anchor, shift = ("end", -10) if left > _WIDTH * 0.7 else ("start", 10)
        body.append(
            f'<text class="label" x="{left + shift:.1f}" y="{top + 4:.1f}" text-anchor="{anchor}">'
            f"{escape(measurement.candidate)}</text>"
        )
    return _svg(body, f"{metric} on validation against size")


def _axis(values: Sequence[float], *, horizontal: bool, pad: float = 0.06) -> _Axis:
    low, high = min(values), max(values)
    room = (high - low) * pad or abs(high) * 0.05 or 1.0
    start, end = (_LEFT, _WIDTH - _RIGHT) if horizontal else (_HEIGHT - _BOTTOM, _TOP)
    return _Axis(
        low if low == 0 or pad == 0 else low - room, high if pad == 0 and high > low else high + room, start, end
    )


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * 0.999)


def _grid(x: _Axis, y: _Axis, x_name: str, x_text: Callable[[float], str], y_text: Callable[[float], str]) -> str:
    parts = []
    for value in y.ticks():
        top = y.at(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{top:.1f}" y2="{top:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{top + 4:.1f}" text-anchor="end">{y_text(round(value, 10))}</text>')
    for value in x.ticks():
        text = x_text(round(value, 10))
        parts.append(f'<text x="{x.at(value):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{text}</text>')
    floor = _HEIGHT - _BOTTOM
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{floor}" y2="{floor}"/>')
    parts.append(f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 4}" text-anchor="end">{x_name}</text>')
    return "".join(parts)


def _dot(left: float, top: float, kind: str, title: str, *, radius: int) -> str:
    circle = f'<circle class="dot {kind}" cx="{left:.1f}" cy="{top:.1f}" r="{radius}">'
    return f"{circle}<title>{escape(title)}</title></circle>"


def _svg(body: Sequence[str], title: str) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(body)}</svg>'


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return float(value)
