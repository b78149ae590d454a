"""One variant from a trained network: export, compressed numbers, golden examples; and how good it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from windlass.compression.config import CompressConfig
from windlass.compression.methods import Chain
from windlass.compression.methods.method import Compressed
from windlass.compression.parts import Parts, spaced_rows
from windlass.storage import Reference
from windlass.tasks import Task
from windlass.variants.variant import GOLDEN_NAME, VARIANT_NAME, Origin, Variant

if TYPE_CHECKING:
    from windlass.data.bundle import Bundle

MODEL_FILE = "model.onnx"
_GOLDEN_ROWS = 8
_FLOAT_TOLERANCE = 1e-4
"""Of golden examples in fp32: another CPU sums floats in another order."""
_JUDGED_ROWS = 10_000


def make_variant(
    chain: Chain,
    parts: Parts,
    *,
    config: CompressConfig,
    task: str,
    model: Reference,
    bundle: Bundle,
    output: Path,
    uncompressed: Path | None,
) -> Variant:
    """Write model.onnx, variant.json and golden.json of one candidate into `output`.

    Args:
        parts: the exported network at the end of the chain's network methods, published as `model`.
        bundle: rows of train calibrate, rows of validation become golden examples.
        uncompressed: directory of the uncompressed variant; None while that one is made.

    Raises:
        NotApplicableError: the chain's last method does nothing for this network.
    """
    made = Compressed(parts.core)
    if chain.graph is not None:
        made = chain.graph.apply(parts.core, list(parts.features(bundle, config.calibration_rows)), config)
    (output / MODEL_FILE).write_bytes(parts.served(made.core).SerializeToString(deterministic=True))
    variant = Variant(
        name=chain.name,
        task=task,
        format="onnx",
        engine="onnxruntime",
        preprocessing="graph",
        signature=parts.signature,
        files=(MODEL_FILE,),
        origin=Origin(model=model, methods=tuple(method.name for method in chain.methods), notes=dict(made.notes)),
    )
    variant.write(output / VARIANT_NAME)
    tolerance = chain.graph.tolerance if chain.graph else _FLOAT_TOLERANCE
    _write_golden(variant, output, bundle, uncompressed or output, tolerance)
    return variant


def main_metric(variant: Path, bundle: Bundle, task: Task, *, threads: int) -> float | None:
    """The task's main metric of a variant on validation, on at most 10,000 rows evenly spaced; None without rows."""
    from windlass.data.features import serving_inputs, targets
    from windlass.variants import open_variant
    from windlass.variants.engines import load_engine

    if not bundle.description.rows["validation"]:
        return None
    engine = load_engine(variant, open_variant(variant), threads=threads)
    answers, wanted = [], []
    for batch in spaced_rows(bundle, "validation", _JUDGED_ROWS):
        answers.append(next(iter(engine.predict(serving_inputs(bundle.description, batch)).values())))
        wanted.append(targets(bundle.description, batch))
    return task.epoch_quality(np.concatenate(answers), np.concatenate(wanted))[task.metric]


def _write_golden(variant: Variant, output: Path, bundle: Bundle, uncompressed: Path, tolerance: float) -> None:
    from windlass.variants import golden, open_variant
    from windlass.variants.engines import load_engine

    engine = load_engine(output, variant, threads=1)
    reference = load_engine(uncompressed, open_variant(uncompressed), threads=1)
    examples = golden.make(engine, _golden_rows(bundle), uncompressed=reference, tolerance=tolerance)
    examples.write(output / GOLDEN_NAME)


def _golden_rows(bundle: Bundle) -> list[Any]:
    """Rows of validation, if it has some, as a caller sends them; of a table, also one whose first value is missing."""
    from windlass.data.features import serving_rows

    rows: list[Any] = []
    split = "validation" if bundle.description.rows["validation"] else "train"
    for batch in spaced_rows(bundle, split, _GOLDEN_ROWS):
        rows += serving_rows(bundle.description, batch)
    rows = rows[:_GOLDEN_ROWS]
    if bundle.description.modality == "images":
        return rows
    first = rows[0]
    missing = {**first, next(iter(first)): None} if isinstance(first, dict) else [None, *first[1:]]
    return [*rows, missing]
