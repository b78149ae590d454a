"""The recipe's `compress` section."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from windlass.schema import Section

CandidateName = Literal["fp32", "int8"]


class CompressConfig(Section):
    """Which candidates to make."""

    candidates: Literal["auto"] | tuple[CandidateName, ...] = Field(
        default="auto", description="auto, or a list of candidates"
    )
    calibration_rows: PositiveInt = Field(default=512, description="rows of train that fix the int8 scales")
