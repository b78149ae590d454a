"""The recipe's `compress` section."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeFloat, PositiveInt

from windlass.compression.methods import parse_chain
from windlass.schema import DurationS, Section


def _spelled(name: str) -> str:
    return parse_chain(name).name


CandidateName = Annotated[str, AfterValidator(_spelled)]


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
    calibration_rows: PositiveInt = Field(default=512, description="rows of train that fix the int8 scales")
