"""All candidates side by side, each against the uncompressed model, and that one against trivial models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from windlass.evaluation.baselines import read_baselines
from windlass.evaluation.bootstrap import Bootstrap
from windlass.evaluation.config import EvaluateConfig
from windlass.evaluation.cost import priced
from windlass.evaluation.documents import (
    EVALUATION_NAME,
    MEASUREMENT_NAME,
    Baseline,
    Comparison,
    Evaluation,
    Measurement,
)
from windlass.evaluation.quality import Scored, agreement, flips, read_predictions
from windlass.evaluation.resamples import Array, read_resamples, write_resamples
from windlass.tasks import Task, get_task


def compare(
    directories: Sequence[Path],
    output: Path,
    *,
    uncompressed: str,
    config: EvaluateConfig,
    task: str,
    baselines: Path | None = None,
) -> Evaluation:
    """Put measurements together, price them, and compare each with that of `uncompressed` row by row.

    Args:
        directories: what `measure` wrote, all of the same split, `uncompressed` among them.
        output: gets evaluation.json and resamples.npz.
        baselines: what `measure_baselines` wrote, of the same split; None to do without.
    """
    kind, measurements = get_task(task), [Measurement.read(directory / MEASUREMENT_NAME) for directory in directories]
    measured = {each.candidate: directory for each, directory in zip(measurements, directories, strict=True)}
    scored = {name: Scored.read(kind, directory, config.confidence) for name, directory in measured.items()}
    base, targets = read_predictions(measured[uncompressed])
    comparisons = []
    for name, directory in measured.items():
        if name != uncompressed:
            answers, _ = read_predictions(directory)
            comparisons.append(
                Comparison(
                    candidate=name,
                    drop=scored[uncompressed].better_than(scored[name]),
                    agreement=agreement(base, answers),
                    differences=scored[name].minus(scored[uncompressed]),
                    flips=flips(base, answers, targets),
                )
            )
    trivial = _trivial(baselines, kind, targets, config, scored[uncompressed]) if baselines else ()
    evaluation = Evaluation(
        uncompressed=uncompressed,
        measurements=tuple(priced(measurement, config) for measurement in measurements),
        comparisons=tuple(comparisons),
        confidence=config.confidence,
        baselines=trivial,
        beats_baselines=all(baseline.margin.low > 0 for baseline in trivial) if trivial else None,
    )
    evaluation.write(output / EVALUATION_NAME)
    write_resamples(
        output,
        {f"{name}/{metric}": sample_R for name, each in scored.items() for metric, sample_R in each.samples.items()},
    )
    return evaluation


def _trivial(
    directory: Path, task: Task, targets_N: Array, config: EvaluateConfig, uncompressed: Scored
) -> tuple[Baseline, ...]:
    """The trivial models of `measure_baselines`, and by how much the uncompressed one is better than each."""
    bootstrap, found = Bootstrap(len(targets_N), config), []
    for baseline in read_baselines(directory):
        scored = Scored.of(task, baseline.predictions, targets_N, bootstrap)
        found.append(
            Baseline(
                name=baseline.name,
                quality=scored.quality(),
                train_rows=baseline.train_rows,
                margin=uncompressed.better_than(scored),
            )
        )
    return tuple(found)


def at_confidence(evaluation: Evaluation, directory: Path, confidence: float | None, task: Task) -> Evaluation:
    """The same evaluation with the intervals that a budget judges, of quality and of drops, at another confidence.

    Args:
        directory: what `compare` wrote.
        confidence: None for that of the evaluation.
    """
    if confidence is None or confidence == evaluation.confidence:
        return evaluation
    samples, scored = read_resamples(directory), dict[str, Scored]()
    for measurement in evaluation.measurements:
        name, quality = measurement.candidate, measurement.quality
        points = {metric: interval.point for metric, interval in quality.items()}
        scored[name] = Scored(task, points, {metric: samples[f"{name}/{metric}"] for metric in points}, confidence)
    base = scored[evaluation.uncompressed]
    measurements = (
        each.model_copy(update={"quality": scored[each.candidate].quality()}) for each in evaluation.measurements
    )
    comparisons = (
        each.model_copy(update={"drop": base.better_than(scored[each.candidate])}) for each in evaluation.comparisons
    )
    return evaluation.model_copy(
        update={
            "confidence": confidence,
            "measurements": tuple(measurements),
            "comparisons": tuple(comparisons),
        }
    )
