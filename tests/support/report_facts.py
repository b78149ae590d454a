"""Whole reports of runs that never were: every part that a report can show is in one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from windlass.compression.documents import Candidate, Candidates, LeftOut
from windlass.data.bundle import BundleWriter
from windlass.data.description import (
    DATASET_NAME,
    SPLITS,
    CategoryTransform,
    Column,
    DatasetDescription,
    NumberTransform,
    PixelsTransform,
    TargetTransform,
)
from windlass.evaluation.analysis.documents import (
    ANALYSIS_NAME,
    Adversarial,
    Analysis,
    Attack,
    ColumnImportance,
    Condition,
    Degraded,
    ExplainedAnswer,
    Fairness,
    GroupFairness,
    GroupRates,
    ImageExample,
    ImageExamples,
    Importance,
    Perturbation,
    Slice,
    Slices,
)
from windlass.evaluation.config import BudgetConfig
from windlass.evaluation.documents import (
    Baseline,
    CalibrationBin,
    ClassFlips,
    ClassQuality,
    Comparison,
    Consumption,
    Cost,
    Energy,
    Evaluation,
    Interval,
    Latency,
    Measurement,
    Memory,
    Mistakes,
    ResidualDecile,
    TestResult,
)
from windlass.evaluation.report import write_report
from windlass.evaluation.selection import select_candidate
from windlass.storage import Reference
from windlass.training.documents import TrainingSummary

NAMES = ("fp32", "int8", "pruned-30+int8", "distilled-50+int8")
SPECIES = ("setosa", "versicolor", "virginica <b>")
"""The last one must stay text."""
_SIZES = {"fp32": 354_000, "int8": 103_000, "pruned-30+int8": 61_000, "distilled-50+int8": 42_000}
_LOST = {"fp32": 0.0, "int8": 0.002, "pruned-30+int8": 0.006, "distilled-50+int8": 0.03}
_SENSITIVITIES = {"sensitivity/first": 0.0021, "sensitivity/last": 0.034, "fp32/last": 1.0}
BUDGET = {"max_quality_drop": 0.01, "max_size": 80_000, "max_latency_p95_ms": 2.0, "batch_size": 1}


def around(point: float, width: float = 0.01) -> Interval:
    return Interval(point=point, low=point - width, high=point + width)


def reference(step: str, letter: str) -> Reference:
    return Reference(uri=f"file:///results/steps/{step}/{letter * 32}", digest=letter * 64)


def write_classes(output: Path, **changes: Any) -> Path:
    """A table in three classes: four candidates, every kind of analysis, a recovery, something left out."""
    return _write(output, "irises", "tabular-classification", classes_bundle(output), **changes)


def write_numbers(output: Path, **changes: Any) -> Path:
    """A regression."""
    return _write(output, "houses", "tabular-regression", _table_bundle(output, numbers=True), **changes)


def write_images(output: Path, **changes: Any) -> Path:
    """Pictures, with explained examples."""
    return _write(output, "shapes", "image-classification", _image_bundle(output), **changes)


def _write(
    output: Path,
    name: str,
    task: str,
    bundle: Path,
    *,
    budget: dict[str, Any] | None = None,
    analysed: bool = True,
    notes: tuple[str, ...] = (),
) -> Path:
    limits = BUDGET if budget is None else budget
    description = DatasetDescription.read(bundle / DATASET_NAME)
    metric = "r2" if task == "tabular-regression" else "accuracy"
    evaluation = evaluation_of(description, metric)
    verdict = select_candidate(evaluation, BudgetConfig.model_validate(limits), task=task)
    verdict = verdict.model_copy(update={"notes": notes})
    if verdict.winner is not None:
        tested = [
            TestResult(candidate=m.candidate, rows=m.rows, quality=m.quality, mistakes=m.mistakes)
            for m in evaluation.measurements
            if m.candidate in (verdict.winner, "fp32")
        ]
        verdict = verdict.model_copy(update={"test": tuple(tested), "test_drop": around(0.004), "test_reads": 12})
    report = output / "report"
    report.mkdir()
    write_report(
        report,
        recipe={
            "name": name,
            "task": task,
            "data": {"source": f"{name}.csv"},
            "budget": limits,
            "train": {"epochs": 12},
        },
        verdict=verdict,
        evaluation=evaluation,
        judged=evaluation,
        bundle=bundle,
        candidates=candidates(),
        training=training(metric),
        history=[
            {"epoch": epoch, "step": 40 * epoch, "train_loss": 1 / epoch, "validation_loss": 0.05 + 1.1 / epoch}
            | {"metric": 0.97 - 0.5 / epoch**2 - 0.001 * max(0, epoch - 9), "learning_rate": 1e-3}
            for epoch in range(1, 13)
        ],
        lineage={
            step: reference(step, letter) for step, letter in (("prepare", "a"), ("train", "b"), ("evaluate", "c"))
        },
        key="d" * 32,
        commands=[f"windlass run {name}.yaml", f"windlass serve {name}"],
        analysis=_write_analysis(output, description, metric) if analysed else None,
    )
    return report / "report.html"


def training(metric: str = "accuracy") -> TrainingSummary:
    return TrainingSummary(
        metric=metric,
        best_epoch=10,
        best_metric=0.965,
        epochs=12,
        steps=480,
        stopped_early=False,
        seconds=200,
        examples_per_second=9000,
        num_workers=2,
        device="cpu",
        num_parameters=88_000,
        warnings=(),
    )


def candidates() -> Candidates:
    return Candidates(
        uncompressed="fp32",
        candidates=tuple(
            Candidate(
                name=name,
                variant=reference("variants", "f"),
                model=reference("train", "b"),
                methods=tuple(name.split("+")) if name != "fp32" else (),
                drop=_LOST[name],
                recovers="distilled-50+int8" if name == "pruned-30+int8" else None,
                notes=_SENSITIVITIES if name == "pruned-30+int8" else {},
            )
            for name in NAMES
        ),
        left_out=(LeftOut(name="low-rank", reason="no layer is large enough for a factorization to save anything"),),
        ended="the frontier had settled: the last three candidates were neither smaller nor better",
    )


def classes_bundle(output: Path) -> Path:
    return _table_bundle(output, numbers=False)


def evaluation_of(description: DatasetDescription, metric: str = "accuracy") -> Evaluation:
    measurements = tuple(_measurement(name, index, description, metric) for index, name in enumerate(NAMES))
    classes = len(description.class_names or ())
    flips = tuple(ClassFlips(rows=50, flipped=2, right_to_wrong=1, wrong_to_right=1) for _ in range(classes))
    return Evaluation(
        uncompressed="fp32",
        measurements=measurements,
        comparisons=tuple(
            Comparison(
                candidate=name,
                drop=around(_LOST[name], 0.004),
                agreement=0.99 if classes else None,
                differences={metric: around(-_LOST[name], 0.004)},
                flips=flips,
            )
            for name in NAMES[1:]
        ),
        baselines=(
            Baseline(
                name="majority" if classes else "mean",
                quality={metric: around(0.34)},
                train_rows=700,
                margin=around(0.6),
            ),
            Baseline(name="linear", quality={metric: around(0.93)}, train_rows=700, margin=around(0.03)),
        ),
        beats_baselines=True,
    )


def _measurement(name: str, index: int, description: DatasetDescription, metric: str) -> Measurement:
    quality = 0.97 - _LOST[name]
    others = {"r2": "rmse"} if metric == "r2" else {"accuracy": "log_loss"}
    return Measurement(
        candidate=name,
        variant=reference("variants", "123e"[index]),
        rows=150,
        metric=metric,
        quality={metric: around(quality, 0.012), others[metric]: around(0.2 + _LOST[name])},
        size_bytes=_SIZES[name],
        latency=tuple(
            Latency(
                batch_size=size,
                p50_ms=0.02 * size**0.6 * (4 - index),
                p95_ms=0.026 * size**0.6 * (4 - index),
                p99_ms=0.04 * size**0.6 * (4 - index),
                runs=4000,
                rows_per_s=size / (0.02 * size**0.6 * (4 - index)) * 1000,
                rounds=5,
                spread=0.03,
            )
            for size in (1, 8, 32)
        ),
        memory=Memory(
            total_bytes=73_000_000 - index,
            peak_bytes=75_000_000 - 400_000 * index,
            interpreter_bytes=70_000_000,
            method="pss",
        ),
        batch_invariant=True,
        threads=2,
        machine="a machine of two cores",
        mistakes=_mistakes(description),
        cost=Cost(
            compressed_bytes=_SIZES[name] * 9 // 10,
            parameters=88_000 - 9000 * index,
            nonzero_parameters=88_000 - 9000 * index,
            macs_per_row=1_200_000 - 200_000 * index,
            per_1000_rows=tuple(
                Consumption(
                    batch_size=size,
                    cpu_s=0.03,
                    energy=Energy(joules=0.4 - 0.05 * index, method="model", relative_error=0.5),
                    price=1e-6,
                )
                for size in (1, 8, 32)
            ),
        ),
        noise="p50 at batch 8 moved by 14 % between rounds; something else ran on this machine"
        if name == "int8"
        else None,
    )


def _mistakes(description: DatasetDescription) -> Mistakes:
    if description.class_names is None:
        return Mistakes(
            residuals={"p5": -40_000, "p25": -9000, "p50": 300, "p75": 11_000, "p95": 52_000, "largest": 310_000},
            deciles=tuple(
                ResidualDecile(
                    low=40_000 * index,
                    high=40_000 * (index + 1),
                    rows=15,
                    mean=700 * (5 - index),
                    p5=-9000.0 - 5000 * index,
                    p50=600.0 * (4 - index),
                    p95=9500.0 + 6000 * index,
                )
                for index in range(10)
            ),
        )
    one = ClassQuality(rows=50, answered=51, precision=around(0.95), recall=around(0.96), f1=None)
    return Mistakes(
        confusion=((50, 0, 0), (1, 47, 2), (0, 3, 47)),
        classes=(one, one, one),
        calibration=tuple(
            CalibrationBin(
                low=low / 10, high=(low + 1) / 10, rows=10 * low, confidence=low / 10 + 0.05, accuracy=low / 10
            )
            for low in range(5, 10)
        ),
    )


def _degraded(loss: float) -> dict[str, Degraded]:
    return {
        name: Degraded(quality=around(0.96 - loss * factor), drop=around(loss * factor))
        for name, factor in (("pruned-30+int8", 1.2), ("fp32", 1.0))
    }


def _write_analysis(output: Path, description: DatasetDescription, metric: str) -> Path:
    directory = output / "analysis"
    directory.mkdir()
    images, numbers = description.modality == "images", description.class_names is None
    kinds: list[dict[str, Any]] = (
        [
            {"kind": "noise", "strength": 8.0, "unit": "grey levels"},
            {"kind": "shift", "strength": 1.0, "unit": "pixels"},
        ]
        if images
        else [{"kind": "missing", "column": "petal_width"}, {"kind": "shuffled", "column": "colour"}]
    )
    found = Slice(
        conditions=(Condition(column="petal_width", low=1.2, high=1.7), Condition(column="colour", value="blue")),
        rows=31,
        error=around(0.2),
        rest=0.02,
        effect=around(0.18),
        p_value=0.0004,
        added=None,
    )
    analysis = Analysis(
        variants=("pruned-30+int8", "fp32"),
        uncompressed="fp32",
        split="validation",
        rows=150,
        rows_of_split=150,
        metric=metric,
        confidence=0.95,
        clean={"pruned-30+int8": around(0.96), "fp32": around(0.97)},
        robustness=tuple(
            Perturbation(**kind, by_variant=_degraded(0.05 * index)) for index, kind in enumerate(kinds, 1)
        ),
        adversarial=Adversarial(
            rows=100,
            attacks=tuple(
                Attack(
                    method=method,
                    strength=s,
                    unit="grey levels" if images else "standard deviations",
                    by_variant=_degraded(s * worse),
                )
                for method, worse in (("fgsm", 0.3), ("pgd", 0.42), ("random", 0.02))
                for s in (0.1, 0.5, 1.0, 2.0)
            ),
        ),
        slices=Slices(
            measure="absolute_error" if numbers else "error_rate",
            min_rows=30,
            tested=212,
            false_discovery_rate=0.1,
            by_variant={"pruned-30+int8": (found.model_copy(update={"added": around(0.01)}),), "fp32": (found,)},
        ),
        fairness=() if images else (_fairness(numbers),),
        importance=None
        if images
        else Importance(
            columns_left_out=1,
            by_variant={
                "pruned-30+int8": tuple(
                    ColumnImportance(column=column, drop=around(drop), draws=(drop,))
                    for column, drop in (("petal_width", 0.41), ("petal_length", 0.2), ("colour", -0.001))
                )
            },
        ),
        image_examples=_examples(directory) if images else None,
        notes=("Attacks were left out of categories: they have no gradient.",),
    )
    analysis.write(directory / ANALYSIS_NAME)
    return directory


def _fairness(numbers: bool) -> Fairness:
    rates = (
        {"mean_error": around(-300, 90), "absolute_error": around(9000, 400)}
        if numbers
        else {
            "accuracy": around(0.95),
            "selection_rate": around(0.3),
            "true_positive_rate": around(0.9),
            "false_positive_rate": around(0.04),
        }
    )
    groups = tuple(GroupRates(group=group, rows=70, **rates) for group in ("blue", "red"))
    return Fairness(
        column="colour",
        is_feature=True,
        left_out=10,
        by_variant={
            "pruned-30+int8": GroupFairness(
                positive_class=None if numbers else "virginica",
                groups=groups,
                demographic_parity_difference=None if numbers else around(0.05),
                equalized_odds_difference=None if numbers else around(0.08),
                mean_error_difference=around(500, 80) if numbers else None,
            )
        },
    )


def _examples(directory: Path) -> ImageExamples:
    examples = []
    for row in range(2):
        for name in (f"picture-{row}.png", f"heat-{row}.png"):
            Image.new("RGB", (8, 8), (90 * row, 40, 160)).save(directory / name)
        answer = ExplainedAnswer(
            answered=SPECIES[row], probability=0.91, largest_influence=0.3, heat_map=f"heat-{row}.png"
        )
        examples.append(
            ImageExample(row=row, picture=f"picture-{row}.png", actual=SPECIES[0], by_variant={"fp32": answer})
        )
    return ImageExamples(window_pixels=2, examples=tuple(examples))


def _table_bundle(output: Path, *, numbers: bool) -> Path:
    rng = np.random.default_rng(0)
    directory = output / "bundle"
    directory.mkdir()
    counts = {"train": 700, "validation": 150, "test": 150}
    tables = {
        split: pa.table(
            {
                "petal_length": rng.normal(4, 1, rows),
                "petal_width": [None if index % 9 == 0 else float(index % 7) / 3 for index in range(rows)],
                "colour": rng.choice(["blue", "red", "white"], rows).tolist(),
                "species": rng.normal(2e5, 9e4, rows) if numbers else rng.integers(0, 3, rows),
            }
        )
        for split, rows in counts.items()
    }
    with BundleWriter(directory, tables["train"].schema) as writer:
        for split in SPLITS:
            writer.write(split, tables[split])
    DatasetDescription(
        modality="table",
        target_kind="number" if numbers else "class",
        target="species",
        columns=(
            Column(name="petal_length", type="number", role="feature"),
            Column(name="petal_width", type="number", role="feature"),
            Column(name="colour", type="category", role="feature"),
            Column(name="species", type="number" if numbers else "category", role="target"),
        ),
        class_names=None if numbers else SPECIES,
        rows=writer.rows,
        class_counts=None
        if numbers
        else {s: tuple(np.bincount(t["species"].to_numpy(), minlength=3)) for s, t in tables.items()},
        shards=writer.shards,
        transforms=(
            NumberTransform(column="petal_length", mean=4, scale=1, missing_indicator=False),
            NumberTransform(column="petal_width", mean=1, scale=0.6, missing_indicator=True),
            CategoryTransform(column="colour", vocabulary=("blue", "red", "white"), other=True),
        ),
        target_transform=TargetTransform(mean=2e5, scale=9e4) if numbers else None,
        fingerprint="9" * 64,
        dropped_rows={"the target is missing": 3},
        dropped_columns={"plant_id": "a name of its own for every row"},
        warnings=("the column 'petal_width' is missing in 11 % of the rows",),
    ).write(directory / DATASET_NAME)
    return directory


def _image_bundle(output: Path) -> Path:
    rng = np.random.default_rng(0)
    directory = output / "bundle"
    directory.mkdir()
    tables = {
        split: pa.table(
            {
                "image": pa.array([rng.integers(0, 255, 300, np.uint8).tobytes() for _ in range(rows)], pa.binary(300)),
                "label": rng.integers(0, 3, rows),
            }
        )
        for split, rows in {"train": 200, "validation": 60, "test": 60}.items()
    }
    with BundleWriter(directory, tables["train"].schema) as writer:
        for split in SPLITS:
            writer.write(split, tables[split])
    DatasetDescription(
        modality="images",
        target_kind="class",
        target="label",
        columns=(),
        class_names=SPECIES,
        image_shape=(10, 10, 3),
        rows=writer.rows,
        class_counts={s: tuple(np.bincount(t["label"].to_numpy(), minlength=3)) for s, t in tables.items()},
        shards=writer.shards,
        transforms=(PixelsTransform(mean=(0.5,) * 3, std=(0.2,) * 3),),
        fingerprint="9" * 64,
    ).write(directory / DATASET_NAME)
    return directory
