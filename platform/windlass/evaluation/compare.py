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
from windlass.evaluation.resamples import write_resamples
from windlass.tasks import get_task


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
    measured = {Measurement.read(directory / MEASUREMENT_NAME).candidate: directory for directory in directories}
    base, targets = read_predictions(measured[uncompressed])
    kind = get_task(task)
    scored_base = Scored.read(kind, measured[uncompressed], config.confidence)
    comparisons, all_scored = [], {uncompressed: scored_base}
    for name, directory in measured.items():
        if name != uncompressed:
            answers, _ = read_predictions(directory)
            scored = all_scored[name] = Scored.read(kind, directory, config.confidence)
            comparisons.append(
                Comparison(
                    candidate=name,
                    drop=scored_base.better_than(scored),
                    agreement=agreement(base, answers),
                    differences=scored.minus(scored_base),
                    flips=flips(base, answers, targets),
                )
            )
    trivial, bootstrap = [], Bootstrap(len(targets), config)
    for baseline in read_baselines(baselines) if baselines else ():
        scored = Scored.of(kind, baseline.predictions, targets, bootstrap)
        trivial.append(
            Baseline(
                name=baseline.name,
                quality=scored.quality(),
                train_rows=baseline.train_rows,
                margin=scored_base.better_than(scored),
            )
        )
    evaluation = Evaluation(
        uncompressed=uncompressed,
        measurements=tuple(
            priced(Measurement.read(directory / MEASUREMENT_NAME), config) for directory in measured.values()
        ),
        comparisons=tuple(comparisons),
        confidence=config.confidence,
        baselines=tuple(trivial),
        beats_baselines=all(baseline.margin.low > 0 for baseline in trivial) if trivial else None,
    )
    evaluation.write(output / EVALUATION_NAME)
    write_resamples(
        output,
        {
            f"{name}/{metric}": sample_R
            for name, scored in all_scored.items()
            for metric, sample_R in scored.samples.items()
        },
    )
    return evaluation
