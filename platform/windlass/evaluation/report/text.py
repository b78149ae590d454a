"""How the report writes figures."""

from __future__ import annotations

from windlass.evaluation.documents import Interval
from windlass.schema import format_size

NONE = "–"
"""What stands where there is no figure."""


def figure(value: float | None) -> str:
    """A figure of quality: four digits after the point, or four in all if it is large."""
    if value is None:
        return NONE
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def bounds(interval: Interval) -> str:
    return f"{figure(interval.low)} to {figure(interval.high)}"


def milliseconds(value: float) -> str:
    if value < 1:
        return f"{value * 1000:.0f} µs"
    return f"{value:.2f} ms" if value < 100 else f"{value:.0f} ms"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def count(value: float) -> str:
    """A whole number, with commas up to a million and in words of thousands above."""
    for unit, factor in (("G", 1e9), ("M", 1e6)):
        if value >= factor:
            return f"{value / factor:.1f} {unit}"
    return f"{value:,.0f}"


def joules(value: float) -> str:
    for unit, factor in (("J", 1.0), ("mJ", 1e-3)):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value * 1e6:.3g} µJ"


def duration(seconds: float) -> str:
    """`41 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def plural(number: float, noun: str) -> str:
    """`1 row`, `1,797 rows`, `3 classes`."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending}"


_ABBREVIATIONS = {
    "ae": "absolute error",
    "auc": "AUC",
    "roc": "ROC",
    "pr": "PR",
    "mae": "MAE",
    "mse": "MSE",
    "rmse": "RMSE",
    "r2": "R²",
    "f1": "F1",
    "brier": "Brier score",
}


def metric_name(name: str) -> str:
    """`pr_auc` as people read it: `PR AUC`."""
    return " ".join(_ABBREVIATIONS.get(word, word) for word in name.split("_"))


def sentence(text: str) -> str:
    """With a capital first letter, and all others as they are."""
    return f"{text[:1].upper()}{text[1:]}"


FILTERS = {
    "figure": figure,
    "bounds": bounds,
    "ms": milliseconds,
    "percent": percent,
    "count": count,
    "duration": duration,
    "joules": joules,
    "metric": metric_name,
    "sentence": sentence,
    "size": format_size,
}
