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
from windlass.evaluation.config import EvaluateConfig
from windlass.progress import track
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
    from windlass.evaluation.analysis.adversarial import adversarial
    from windlass.evaluation.analysis.fairness import fairness
    from windlass.evaluation.analysis.groups import groups_of_images, groups_of_table
    from windlass.evaluation.analysis.importance import permutation_importance
    from windlass.evaluation.analysis.slices import find_slices

    bundle = Bundle.open(dataset)
    images = bundle.description.modality == "images"
    sample = read_sample(bundle, split, config.analysis.rows)
    reference = None if images else read_reference(bundle)
    engines = {name: load_engine(path, open_variant(path), threads, device=device) for name, path in variants.items()}
    with track(f"analysing {' and '.join(variants)}", unit="rows") as bar:
        subject = Subject(get_task(task), sample, engines, config, bar)
        clean = subject.clean()
        attacked = Subject(get_task(task), sample.head(config.analysis.attack_rows), engines, config, bar)
        attacks = adversarial(attacked, model, reference)
        analysis = Analysis(
            variants=tuple(variants),
            uncompressed=uncompressed,
            split=split,
            rows=len(sample),
            rows_of_split=bundle.description.rows[split],
            metric=subject.task.metric,
            confidence=config.confidence,
            clean=clean,
            robustness=robustness(subject),
            adversarial=attacks,
            slices=find_slices(
                subject,
                groups_of_images(sample) if reference is None else groups_of_table(sample, reference),
                uncompressed,
            ),
            fairness=fairness(subject, config.sensitive, reference),
            importance=None if images else permutation_importance(subject),
            image_examples=_explained(subject, output) if images else None,
            notes=_notes(sample, bundle.description.rows[split], attacked=attacks is not None),
        )
    analysis.write(output / ANALYSIS_NAME)
    return analysis


def _explained(subject: Subject, output: Path) -> ImageExamples:
    # captum takes a second to import, which tables do without
    from windlass.evaluation.analysis.occlusion import explained_examples

    return explained_examples(subject, output)


def _notes(sample: Sample, rows_of_split: int, *, attacked: bool) -> tuple[str, ...]:
    rows, features = len(sample), len(sample.description.features)
    said = [
        (
            rows < rows_of_split,
            f"{rows:,} of the {rows_of_split:,} rows of {sample.split} were looked at, drawn with a fixed seed.",
        ),
        (not attacked, "Nothing was attacked: no column holds numbers, or the rows are too few for the metric."),
        (features > MAX_COLUMNS, f"Of {features} columns the first {MAX_COLUMNS} were taken away and shuffled."),
    ]
    return tuple(sentence for holds, sentence in said if holds)
