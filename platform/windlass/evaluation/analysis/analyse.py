"""Look at a few variants more closely than one figure of quality does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from windlass.data.bundle import Bundle
from windlass.data.description import SplitName
from windlass.evaluation.analysis.documents import ANALYSIS_NAME, Analysis, ImageExamples
from windlass.evaluation.analysis.robustness import MAX_COLUMNS, robustness
from windlass.evaluation.analysis.sample import Sample, read_reference, read_sample
from windlass.evaluation.analysis.subject import Subject
from windlass.evaluation.analysis.time_limit import TimeLimit
from windlass.evaluation.config import EvaluateConfig
from windlass.progress import message, track
from windlass.tasks import get_task
from windlass.variants import open_variant
from windlass.variants.engines import Device, load_engine


def analyse(
    variants: Mapping[str, Path],
    *,
    uncompressed: str,
    model: Path,
    dataset: Path,
    output: Path,
    task: str,
    config: EvaluateConfig,
    threads: int,
    device: Device = "cpu",
    split: SplitName = "validation",
) -> Analysis:
    """Write analysis.json, and PNG files of image examples, into `output`.

    Args:
        variants: directories by name, the one of most interest first, `uncompressed` among them.
        model: directory of the trained model, whose gradients attack.
        dataset: directory of the bundle whose `split` is looked at.
        threads: of each engine.
        device: on which each engine runs.

    Raises:
        EmptySplitError: the split has no rows.
        SensitiveColumnAbsentError: the bundle lacks a column of `config.sensitive`.
        UndefinedMetricError: the main metric has no value on the rows that were drawn.
    """
    bundle = Bundle.open(dataset)
    sample = read_sample(bundle, split, config.analysis.rows)
    engines = {name: load_engine(path, open_variant(path), threads, device=device) for name, path in variants.items()}
    limit = TimeLimit(config.analysis.max_time)
    with track(f"analysing {' and '.join(variants)}", unit="rows") as bar:
        subject = Subject(get_task(task), sample, engines, config, bar, limit)
        attacked = Subject(get_task(task), sample.head(config.analysis.attack_rows), engines, config, bar, limit)
        analysis = _look(
            subject, attacked, bundle, uncompressed=uncompressed, model=model, output=output, config=config
        )
    if (over := limit.sentence()) is not None:
        message(over)
    analysis.write(output / ANALYSIS_NAME)
    return analysis


def _look(
    subject: Subject,
    attacked: Subject,
    bundle: Bundle,
    *,
    uncompressed: str,
    model: Path,
    output: Path,
    config: EvaluateConfig,
) -> Analysis:
    """What needs no further answers first, for it always has its time; attacks, which take the longest, last."""
    from windlass.evaluation.analysis.adversarial import adversarial
    from windlass.evaluation.analysis.fairness import fairness
    from windlass.evaluation.analysis.groups import groups_of_images, groups_of_table
    from windlass.evaluation.analysis.importance import permutation_importance
    from windlass.evaluation.analysis.slices import find_slices

    sample, images = subject.sample, subject.task.modality == "images"
    reference = None if images else read_reference(bundle)
    groups = groups_of_images(sample) if reference is None else groups_of_table(sample, reference)
    clean = subject.clean()
    fair = fairness(subject, config.sensitive, reference)
    slices = find_slices(subject, groups, uncompressed)
    changes = robustness(subject)
    importance = None if images else permutation_importance(subject)
    examples = _explained(subject, output) if images else None
    attacks = adversarial(attacked, model, reference)
    return Analysis(
        variants=tuple(subject.engines),
        uncompressed=uncompressed,
        split=sample.split,
        rows=len(sample),
        rows_of_split=bundle.description.rows[sample.split],
        metric=subject.task.metric,
        confidence=config.confidence,
        clean=clean,
        robustness=changes,
        adversarial=attacks,
        slices=slices,
        fairness=fair,
        importance=importance,
        image_examples=examples,
        notes=_notes(sample, bundle.description.rows[sample.split], subject.limit, attacked=attacks is not None),
        left_out=tuple(subject.limit.left_out),
    )


def _explained(subject: Subject, output: Path) -> ImageExamples | None:
    # captum takes a second to import, which tables do without
    from windlass.evaluation.analysis.occlusion import explained_examples

    return explained_examples(subject, output)


def _notes(sample: Sample, rows_of_split: int, limit: TimeLimit, *, attacked: bool) -> tuple[str, ...]:
    rows, features = len(sample), len(sample.description.features)
    said = [
        (
            rows < rows_of_split,
            f"{rows:,} of the {rows_of_split:,} rows of {sample.split} were looked at, drawn with a fixed seed.",
        ),
        (not attacked, "Nothing was attacked: no column holds numbers, or the rows are too few for the metric."),
        (features > MAX_COLUMNS, f"Of {features} columns the first {MAX_COLUMNS} were taken away and shuffled."),
    ]
    over = limit.sentence()
    return (*(sentence for holds, sentence in said if holds), *([over] if over else ()))
