"""The recipe's `evaluate` and `budget` sections."""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from windlass.schema import DurationS, Section, SizeBytes

PRICES = ("watts_per_core", "price_per_hour")
"""Keys of `evaluate` that change what a measurement is worth, and not what is measured."""
Objective = Literal["size", "latency", "memory", "energy"]


def _check_drop(drop: float | str) -> float | str:
    if isinstance(drop, str) and not re.fullmatch(r"\d+(\.\d+)?%", drop):
        raise ValueError("not a drop; write it as 0.01 or 2%")
    if isinstance(drop, float) and not 0 <= drop < math.inf:
        raise ValueError("a drop is 0 or more")
    return drop


QualityDrop = Annotated[float | str, AfterValidator(_check_drop)]
"""`0.01`, or `2%` of the uncompressed model's value."""


class AnalysisConfig(Section):
    """How closely the chosen version and the uncompressed one are looked at, beyond their quality."""

    rows: NonNegativeInt = Field(
        default=2000,
        description="of validation, drawn with a fixed seed, of images at most 64 MB of pixels; 0: no such look",
    )
    attack_rows: PositiveInt = Field(default=300, description="of these, how many adversarial examples are made from")
    max_time: DurationS = Field(
        default=300.0, gt=0, description="what is not looked at by then is left out, and the report names it"
    )


class EvaluateConfig(Section):
    """How candidates are measured."""

    latency_seconds: PositiveFloat = Field(
        default=5.0, description="the most spent on a candidate's latencies; it ends earlier when they are known to 3 %"
    )
    bootstrap: PositiveInt = Field(default=1000, description="resamples behind each confidence interval")
    confidence: PositiveFloat = Field(default=0.95, lt=1, description="of the intervals")
    watts_per_core: PositiveFloat = Field(
        default=10.0, description="of a busy core: for energy where the processor's own counter cannot be read"
    )
    price_per_hour: PositiveFloat | None = Field(
        default=None, description="of the machine, in any currency: prices 1,000 rows of one serving process"
    )
    sensitive: tuple[str, ...] = Field(
        default=(), description="columns by whose groups fairness is measured; data.drop keeps them from the model"
    )
    analysis: AnalysisConfig = AnalysisConfig()

    @model_validator(mode="after")
    def _looks_at_the_sensitive(self) -> Self:
        if self.sensitive and not self.analysis.rows:
            raise ValueError("the fairness of sensitive columns is measured on analysis.rows, which is 0")
        return self

    def measuring(self) -> dict[str, object]:
        """What measurements and the choice depend on, as JSON: all but what the analysis looks at."""
        return self.model_dump(mode="json", exclude={"sensitive", "analysis", *PRICES})


class MetricLimit(Section):
    """Bounds of one metric, named as in the report."""

    min: float | None = Field(default=None, description="the least that is allowed")
    max: float | None = Field(default=None, description="the most that is allowed")

    @model_validator(mode="after")
    def _bounds_something(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("give min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}: nothing lies between them")
        return self


class BudgetConfig(Section):
    """What the chosen version has to keep, and what it is chosen by. An absent limit is no limit."""

    max_quality_drop: QualityDrop | None = Field(
        default=None,
        description="against the uncompressed model: in units of the task's main metric, or as `2%` of its value",
    )
    min_quality: float | None = Field(default=None, description="bound on the task's main metric")
    metrics: dict[str, MetricLimit] = Field(
        default={}, description="bounds on any metric of the task: `{f1_macro: {min: 0.9}, log_loss: {max: 0.3}}`"
    )
    confidence: PositiveFloat | None = Field(
        default=None,
        lt=1,
        description="judge quality by the worse bound of its interval of this confidence, such as 0.95; "
        "default: by the point",
    )
    max_size: SizeBytes | None = Field(default=None, gt=0, description="of the files that the engine loads")
    max_latency_p50_ms: PositiveFloat | None = Field(default=None, description="median time of one call")
    max_latency_p95_ms: PositiveFloat | None = Field(default=None, description="95th percentile of one call")
    max_latency_p99_ms: PositiveFloat | None = Field(default=None, description="99th percentile of one call")
    min_throughput: PositiveFloat | None = Field(default=None, description="rows per second of one serving process")
    max_memory: SizeBytes | None = Field(
        default=None, gt=0, description="summed PSS of the serving processes, the most while they answer"
    )
    max_energy: PositiveFloat | None = Field(default=None, description="joules for 1,000 rows")
    batch_size: Literal[1, 8, 32] = Field(
        default=1, description="batch size at which limits of latency, throughput and energy hold"
    )
    objective: Objective = Field(
        default="size", description="what the winner has least of, inside the budget; equals are told apart by latency"
    )
