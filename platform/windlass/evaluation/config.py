"""The recipe's `evaluate` and `budget` sections."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from windlass.schema import Section, SizeBytes


class AnalysisConfig(Section):
    """How closely the chosen version and the uncompressed one are looked at, beyond their quality."""

    rows: PositiveInt = Field(
        default=2000, description="of validation, drawn with a fixed seed; of images at most 64 MB of pixels"
    )
    attack_rows: PositiveInt = Field(default=300, description="of these, how many adversarial examples are made from")


class EvaluateConfig(Section):
    """How candidates are measured."""

    latency_seconds: PositiveFloat = Field(default=1.0, description="time spent on each batch size, after warm-up")
    bootstrap: PositiveInt = Field(default=1000, description="resamples behind each confidence interval")
    confidence: PositiveFloat = Field(default=0.95, lt=1, description="of the intervals")
    sensitive: tuple[str, ...] = Field(
        default=(), description="columns by whose groups fairness is measured; data.drop keeps them from the model"
    )
    analysis: AnalysisConfig = AnalysisConfig()

    def measuring(self) -> dict[str, object]:
        """What measurements and the choice depend on, as JSON: all but what the analysis looks at."""
        return self.model_dump(mode="json", exclude={"sensitive", "analysis"})


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
