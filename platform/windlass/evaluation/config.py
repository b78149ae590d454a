"""The recipe's `evaluate` and `budget` sections."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from windlass.schema import Section, SizeBytes


class EvaluateConfig(Section):
    """How candidates are measured."""

    latency_seconds: PositiveFloat = Field(default=1.0, description="time spent on each batch size, after warm-up")
    bootstrap: PositiveInt = Field(default=1000, description="resamples behind each confidence interval")
    confidence: PositiveFloat = Field(default=0.95, lt=1, description="of the intervals")


class BudgetConfig(Section):
    """What the chosen version has to keep. An absent limit is no limit."""

    max_quality_drop: NonNegativeFloat | None = Field(
        default=None, description="against the uncompressed model, in units of the task's main metric"
    )
    min_quality: float | None = Field(default=None, description="bound on the task's main metric")
    max_size: SizeBytes | None = Field(default=None, gt=0, description="of the files that the engine loads")
    max_latency_p50_ms: PositiveFloat | None = Field(default=None, description="median time of one call")
    max_latency_p95_ms: PositiveFloat | None = Field(default=None, description="95th percentile of one call")
    max_memory: SizeBytes | None = Field(default=None, gt=0, description="summed PSS of the serving processes")
    batch_size: Literal[1, 32] = Field(default=1, description="batch size at which the latency limits hold")
