"""All candidates side by side, each against the uncompressed model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from windlass.evaluation.config import EvaluateConfig
from windlass.evaluation.documents import MEASUREMENT_NAME, Comparison, Evaluation, Measurement
from windlass.evaluation.quality import agreement, paired_drop, read_predictions
from windlass.tasks import get_task


def compare(directories: Sequence[Path], *, uncompressed: str, config: EvaluateConfig, task: str) -> Evaluation:
    """Put measurements together, and compare each with that of `uncompressed` row by row.

    Args:
        directories: what `measure` wrote, all of the same split, `uncompressed` among them.
    """
    measured = {Measurement.read(directory / MEASUREMENT_NAME).candidate: directory for directory in directories}
    predictions = {name: read_predictions(directory) for name, directory in measured.items()}
    base, targets = predictions[uncompressed]
    comparisons = [
        Comparison(
            candidate=name,
            drop=paired_drop(get_task(task), base, answers, targets, config),
            agreement=agreement(base, answers),
        )
        for name, (answers, _) in predictions.items()
        if name != uncompressed
    ]
    return Evaluation(
        uncompressed=uncompressed,
        measurements=tuple(Measurement.read(directory / MEASUREMENT_NAME) for directory in directories),
        comparisons=tuple(comparisons),
    )
