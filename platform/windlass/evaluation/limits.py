"""The limits of a budget: what each is compared with, how a miss is told, and what would have to change."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from windlass.evaluation.config import BudgetConfig
from windlass.evaluation.documents import Consumption, Interval, Latency, Measurement, Miss
from windlass.evaluation.errors import UndefinedMetricError
from windlass.schema import format_size

Unit = Literal["quality", "bytes", "ms", "rows/s", "J"]

NO_DROP = Interval(point=0.0, low=0.0, high=0.0)
_ROUNDING = 1e-9
"""0.99 - 0.98 is more than 0.01 in binary; nobody shall lose by that."""


@dataclass(frozen=True)
class Figures:
    """What a budget looks at: one candidate's measurement in an evaluation, at the budget's batch size.

    Attributes:
        drop: by how much it is worse than the uncompressed model in the main metric; zero for that one itself.
    """

    measurement: Measurement
    batch_size: int
    drop: Interval = NO_DROP

    @property
    def latency(self) -> Latency:
        return next(timed for timed in self.measurement.latency if timed.batch_size == self.batch_size)

    @property
    def consumption(self) -> Consumption:
        return next(spent for spent in self.measurement.cost.per_1000_rows if spent.batch_size == self.batch_size)

    @property
    def joules(self) -> float:
        """For 1,000 rows."""
        energy = self.consumption.energy
        assert energy is not None, "an evaluation is priced, and resolving refuses limits of energy on a GPU"
        return energy.joules

    def metric(self, name: str) -> Interval:
        """A metric's value.

        Raises:
            UndefinedMetricError: it has none on these rows.
        """
        if name not in self.measurement.quality:
            raise UndefinedMetricError(name, self.measurement.rows)
        return self.measurement.quality[name]


@dataclass(frozen=True)
class Limit:
    """One limit of a budget.

    Attributes:
        key: below `budget` in the recipe.
        allowed: in the unit of `unit`.
        lower: whether more is better.
        of: the figure that it bounds.
        percent_of: what `allowed` was a percentage of, if it was one.
        spread_of: how far the figure is known to either side, relative to it, if it was measured so.
    """

    key: str
    label: str
    unit: Unit
    allowed: float
    of: Callable[[Figures], float | Interval]
    lower: bool = False
    percent_of: float | None = None
    spread_of: Callable[[Figures], float] | None = None

    def figure(self, figures: Figures, *, at_bound: bool) -> float:
        """What is compared.

        Args:
            at_bound: whether of an interval its worse bound counts, not its point.
        """
        figure = self.of(figures)
        if not isinstance(figure, Interval):
            return figure
        if not at_bound:
            return figure.point
        return figure.low if self.lower else figure.high

    def miss(self, figures: Figures, *, at_bound: bool) -> Miss | None:
        """How a candidate misses this limit; None if it keeps it."""
        figure = self.figure(figures, at_bound=at_bound)
        miss = Miss(limit=self.key, allowed=self.allowed, measured=figure)
        return miss if self.excess(miss) > _ROUNDING * max(1.0, abs(self.allowed)) else None

    def wholly_beyond(self, interval: Interval) -> bool:
        """Whether no value of the interval keeps this limit."""
        if self.lower:
            return interval.high < self.allowed - _ROUNDING
        return interval.low > self.allowed + _ROUNDING

    def doubt(self, figures: Figures) -> str | None:
        """In words, if the figure is not known well enough to tell on which side of this limit it is."""
        if self.spread_of is None:
            return None
        figure, spread = self.figure(figures, at_bound=False), self.spread_of(figures)
        if abs(self.allowed - figure) >= spread * figure:
            return None
        measured, allowed = shown(figure, self.unit), shown(self.allowed, self.unit)
        return (
            f"{self.label} {measured} is known to {spread:.0%} to either side, and the limit of {allowed} lies within"
        )

    def excess(self, miss: Miss) -> float:
        return miss.allowed - miss.measured if self.lower else miss.measured - miss.allowed

    def relative_excess(self, miss: Miss) -> float:
        """For comparing misses of different limits; quality is counted in hundredths where nothing is allowed."""
        return self.excess(miss) / max(abs(miss.allowed), 0.01)

    def told(self, miss: Miss) -> str:
        side = "below the least" if self.lower else "over the most"
        by, measured, allowed = (shown(value, self.unit) for value in (self.excess(miss), miss.measured, miss.allowed))
        return f"{self.label} {measured} is {by} {side} allowed {allowed}"

    def enough(self, miss: Miss) -> str:
        """The nearest round value of the limit that this measurement keeps, as a recipe writes it."""
        if self.percent_of is not None:
            return f"{_round_up(100 * miss.measured / self.percent_of):g}%"
        if self.unit == "bytes":
            for unit, factor in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
                if miss.measured >= factor:
                    return f"{_round_up(miss.measured / factor):g}{unit}"
        if self.lower and self.unit == "quality":
            return f"{math.floor(miss.measured * 1000) / 1000:g}"
        return f"{-_round_up(-miss.measured) if self.lower else _round_up(miss.measured):.10g}"


_PLAIN: tuple[tuple[str, str, Unit, bool, Callable[[Figures], float | Interval]], ...] = (
    ("min_quality", "quality", "quality", True, lambda figures: figures.metric(figures.measurement.metric)),
    ("max_size", "size", "bytes", False, lambda figures: figures.measurement.size_bytes),
    ("max_latency_p50_ms", "p50 latency", "ms", False, lambda figures: figures.latency.p50_ms),
    ("max_latency_p95_ms", "p95 latency", "ms", False, lambda figures: figures.latency.p95_ms),
    ("max_latency_p99_ms", "p99 latency", "ms", False, lambda figures: figures.latency.p99_ms),
    ("min_throughput", "throughput", "rows/s", True, lambda figures: figures.latency.rows_per_s),
    ("max_memory", "memory", "bytes", False, lambda figures: figures.measurement.memory.peak_bytes),
    ("max_energy", "energy for 1,000 rows", "J", False, lambda figures: figures.joules),
)
"""Key, label, unit, whether more is better, and the figure; quality relative to another model is not here."""
_SPREADS: Mapping[str, Callable[[Figures], float]] = {
    "max_latency_p50_ms": lambda figures: figures.latency.spread,
    "max_latency_p95_ms": lambda figures: figures.latency.p95_spread,
    "max_latency_p99_ms": lambda figures: figures.latency.p99_spread,
}


def limits_of(budget: BudgetConfig, uncompressed_quality: float) -> list[Limit]:
    """Every limit that a budget sets, those of quality first.

    Args:
        uncompressed_quality: the uncompressed model's main metric, of which `2%` is a percentage.
    """
    found = []
    if (drop := budget.max_quality_drop) is not None:
        base = abs(uncompressed_quality) if isinstance(drop, str) else None
        allowed = float(drop.rstrip("%")) / 100 * abs(uncompressed_quality) if isinstance(drop, str) else drop
        found.append(
            Limit("max_quality_drop", "drop", "quality", allowed, lambda figures: figures.drop, percent_of=base)
        )
    for name, bounds in budget.metrics.items():
        for side, allowed_value in (("min", bounds.min), ("max", bounds.max)):
            if allowed_value is not None:
                key, lower = f"metrics.{name}.{side}", side == "min"
                found.append(Limit(key, name, "quality", allowed_value, _metric(name), lower))
    for key, label, unit, lower, of in _PLAIN:
        if (value := getattr(budget, key)) is not None:
            found.append(Limit(key, label, unit, value, of, lower, spread_of=_SPREADS.get(key)))
    return found


def _metric(name: str) -> Callable[[Figures], Interval]:
    return lambda figures: figures.metric(name)


def misses_of(figures: Figures, limits: Sequence[Limit], *, at_bound: bool) -> tuple[Miss, ...]:
    """Every limit that a candidate does not keep."""
    found = (limit.miss(figures, at_bound=at_bound) for limit in limits)
    return tuple(miss for miss in found if miss is not None)


def shown(value: float, unit: Unit) -> str:
    """A figure for people."""
    if unit == "bytes":
        return format_size(value)
    if unit == "quality":
        return f"{value:.4f}"
    return f"{value:,.0f} {unit}" if abs(value) >= 1000 else f"{value:.3g} {unit}"


def _round_up(value: float) -> float:
    """To two digits, upwards: 0.0123 becomes 0.013, 61.2 becomes 62, -61.2 becomes -61."""
    if value == 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    return math.ceil(value / step - 1e-9) * step
