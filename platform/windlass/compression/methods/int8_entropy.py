"""Static int8 whose ranges keep the distribution of activations, at the price of its tails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from windlass.compression.methods.int8 import Int8
from windlass.compression.methods.method import Calibration


@dataclass(frozen=True)
class Int8Entropy(Int8):
    """Static int8, calibrated by entropy."""

    form: ClassVar[str] = "int8-entropy"
    summary: ClassVar[str] = "int8 with ranges that keep the distribution of activations by Kullback-Leibler divergence"
    calibration: ClassVar[Calibration] = "entropy"
