"""The recipe's `compress` section."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from windlass.compression.methods import parse_chain
from windlass.schema import DurationS, Section


def _spelled(name: str) -> str:
    return parse_chain(name).name


CandidateName = Annotated[str, AfterValidator(_spelled)]


class FineTuneConfig(Section):
    """How a changed network is trained: as the recipe's `train` says, but without warm-up, and often shorter."""

    epochs: PositiveInt | None = Field(
        default=None, description="default: half of train.epochs, but 8 if that is less; never more than train.epochs"
    )
    learning_rate: PositiveFloat | None = Field(default=None, description="at its start; default: train.learning_rate")


class PruningConfig(Section):
    """Which channels `pruned-PERCENT` removes."""

    importance: Literal["l1", "l2"] = Field(
        default="l2", description="norm by which channels are ranked, over all weights that go with them"
    )
    scope: Literal["layer", "global"] = Field(
        default="layer", description="layer: each loses the same share; global: all layers are ranked together"
    )


class DistillationConfig(Section):
    """How networks learn from the uncompressed one: students, and every network that is fine-tuned."""

    temperature: PositiveFloat = Field(default=2.0, description="softens the probabilities of both; of classes only")
    label_weight: float = Field(default=0.5, ge=0, le=1, description="share of the labels in the loss; 1: no teacher")
    epochs: PositiveInt | None = Field(default=None, description="of a student; default: train.epochs")
    widths: tuple[str, ...] = Field(
        default=(), description="parameters of your own module that a smaller student has fewer of, such as hidden"
    )


class CompressConfig(Section):
    """Which candidates to make, and how hard to try. None of it depends on the budget, which is applied later."""

    candidates: Literal["auto"] | tuple[CandidateName, ...] = Field(
        default="auto", description="auto, or a list of candidates such as int8 or pruned-50+int8"
    )
    max_time: DurationS | None = Field(
        default=None, gt=0, description="auto: no new candidate is begun after this; default: until the ladder ends"
    )
    acceptable_drop: NonNegativeFloat = Field(
        default=0.005,
        description="auto: of the main metric on validation; what loses more is mended, or its kind given up",
    )
    recover: bool = Field(default=True, description="auto: try to win back what a candidate loses by a little")
    fine_tune: FineTuneConfig = FineTuneConfig()
    pruning: PruningConfig = PruningConfig()
    distillation: DistillationConfig = DistillationConfig()
    calibration_rows: PositiveInt = Field(default=512, description="rows of train that fix the int8 scales")
