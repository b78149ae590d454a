"""Static int8 without the outliers: what lies outside 99.99 % of an activation's values is clipped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from windlass.compression.methods.int8 import Int8
from windlass.compression.methods.method import Calibration


@dataclass(frozen=True)
class Int8Percentile(Int8):
    """Static int8, calibrated by percentile."""

    form: ClassVar[str] = "int8-percentile"
    summary: ClassVar[str] = "int8 with finer steps: the outermost 0.01 % of an activation's values are clipped"
    calibration: ClassVar[Calibration] = "percentile"
