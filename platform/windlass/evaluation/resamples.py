"""Metrics on each resample, kept beside what was made of them: to compare candidates, and for other confidences.

Shapes: R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from windlass.evaluation.documents import RESAMPLES_NAME

Array = np.ndarray[Any, np.dtype[Any]]


def write_resamples(directory: Path, samples: Mapping[str, Array]) -> None:
    """Write float64 [R] by name: 8 KB for a metric on 1,000 resamples."""
    np.savez(directory / RESAMPLES_NAME, **samples)  # type: ignore[arg-type]


def read_resamples(directory: Path) -> dict[str, Array]:
    """What `write_resamples` wrote."""
    with np.load(directory / RESAMPLES_NAME, allow_pickle=False) as arrays:
        return dict(arrays)
