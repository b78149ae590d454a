"""Metrics on each resample, kept beside what was made of them: to compare candidates, and for other confidences.

Shapes: R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from windlass.evaluation.bootstrap import percentile_interval
from windlass.evaluation.documents import RESAMPLES_NAME, Evaluation, Interval
from windlass.tasks import Task

Array = np.ndarray[Any, np.dtype[Any]]


def write_resamples(directory: Path, samples: Mapping[str, Array]) -> None:
    """Write float64 [R] by name: 8 KB for a metric on 1,000 resamples."""
    np.savez(directory / RESAMPLES_NAME, **samples)  # type: ignore[arg-type]


def read_resamples(directory: Path) -> dict[str, Array]:
    """What `write_resamples` wrote."""
    with np.load(directory / RESAMPLES_NAME, allow_pickle=False) as arrays:
        return dict(arrays)


def at_confidence(evaluation: Evaluation, directory: Path, confidence: float | None, task: Task) -> Evaluation:
    """The same evaluation with the intervals that a budget judges, of quality and of drops, at another confidence.

    Args:
        directory: holds every candidate's metrics as `candidate/metric`.
        confidence: None for that of the evaluation.
    """
    if confidence is None or confidence == evaluation.confidence:
        return evaluation
    samples = read_resamples(directory)

    def again(interval: Interval, sample_R: Array) -> Interval:
        return percentile_interval(interval.point, sample_R, confidence)

    def drops(candidate: str) -> Array:
        base_R, sample_R = (samples[f"{name}/{task.metric}"] for name in (evaluation.uncompressed, candidate))
        lost_R: Array = base_R - sample_R if task.higher_is_better else sample_R - base_R
        return lost_R

    return evaluation.model_copy(
        update={
            "confidence": confidence,
            "measurements": tuple(
                measurement.model_copy(
                    update={
                        "quality": {
                            metric: again(interval, samples[f"{measurement.candidate}/{metric}"])
                            for metric, interval in measurement.quality.items()
                        }
                    }
                )
                for measurement in evaluation.measurements
            ),
            "comparisons": tuple(
                comparison.model_copy(update={"drop": again(comparison.drop, drops(comparison.candidate))})
                for comparison in evaluation.comparisons
            ),
        }
    )
