"""From a trained model to one candidate: export, quantize, golden examples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from windlass.compression.config import CompressConfig
from windlass.compression.errors import ExportError, NameCollisionError
from windlass.progress import track
from windlass.storage import Reference
from windlass.tasks import Task, get_task
from windlass.variants.signature import Signature
from windlass.variants.variant import GOLDEN_NAME, VARIANT_NAME, Origin, Variant

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from windlass.data.bundle import Bundle

    Array = np.ndarray[Any, np.dtype[Any]]

UNCOMPRESSED = "fp32"
MODEL_FILE = "model.onnx"
_AUTO = ("fp32", "int8")
_GOLDEN_ROWS = 8
_TOLERANCE = {"fp32": 1e-4, "int8": 2e-2}
"""Of golden examples: another CPU sums floats in another order, which can move an int8 value by one step."""
_EXPORT_TOLERANCE = 1e-4
_CHECKED_ROWS = 64
_READ_ROWS = 1024


def plan(config: CompressConfig) -> list[str]:
    """Names of the candidates to make, the uncompressed one first whether it was listed or not."""
    listed = _AUTO if config.candidates == "auto" else config.candidates
    return [UNCOMPRESSED, *dict.fromkeys(name for name in listed if name != UNCOMPRESSED)]


def make_variant(
    name: str,
    *,
    config: CompressConfig,
    task: str,
    model: Path,
    model_reference: Reference,
    dataset: Path,
    output: Path,
    uncompressed: Path | None,
) -> Variant:
    """Write model.onnx, variant.json and golden.json of one candidate into `output`.

    Args:
        name: one of `plan(config)`.
        model: directory of the trained model, published as `model_reference`.
        dataset: directory of the bundle; rows of train calibrate, rows of validation become golden examples.
        uncompressed: directory of the uncompressed variant; None while that one is made.

    Raises:
        ExportError: the network has no ONNX form, or one that answers differently.
        NameCollisionError: a column has the name of the model's output.
    """
    from windlass.data.bundle import Bundle

    bundle = Bundle.open(dataset)
    with track(f"making {name}", total=3, unit="stages") as bar:
        parts = export_parts(get_task(task), model, bundle)
        bar.advance()
        core = parts.core
        if name != UNCOMPRESSED:
            from windlass.compression.quantize import quantize_static

            core = quantize_static(core, list(parts.features(bundle, config.calibration_rows)))
        (output / MODEL_FILE).write_bytes(parts.served(core).SerializeToString(deterministic=True))
        bar.advance()
        variant = Variant(
            name=name,
            task=task,
            format="onnx",
            engine="onnxruntime",
            preprocessing="graph",
            signature=parts.signature,
            files=(MODEL_FILE,),
            origin=Origin(model=model_reference, methods=() if name == UNCOMPRESSED else (name,)),
        )
        variant.write(output / VARIANT_NAME)
        _write_golden(variant, output, bundle, uncompressed or output)
        bar.advance()
    return variant


@dataclass(frozen=True)
class Parts:
    """A served graph before it is joined: only the core is ever compressed."""

    signature: Signature
    preprocessing: onnx.ModelProto
    core: onnx.ModelProto

    def served(self, core: onnx.ModelProto) -> onnx.ModelProto:
        """One graph from raw rows to answers."""
        import onnx
        from onnx import compose

        from windlass.compression.preprocess import FEATURES
        from windlass.compression.slim import slim

        core = compose.add_prefix(core, "core/", rename_inputs=False, rename_outputs=False)
        joined = compose.merge_models(self.preprocessing, core, io_map=[(FEATURES, FEATURES)])
        slimmed = slim(joined)
        onnx.checker.check_model(slimmed, full_check=True)
        return slimmed

    def features(self, bundle: Bundle, rows: int) -> Iterator[Array]:
        """Features of about `rows` rows of train, evenly spaced over it, in batches: float32 [B, ...]."""
        import onnxruntime

        from windlass.data.features import serving_inputs

        session = onnxruntime.InferenceSession(
            self.preprocessing.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        for batch in _spaced_rows(bundle, "train", rows):
            yield session.run(None, serving_inputs(bundle.description, batch))[0]


def export_parts(task: Task, model: Path, bundle: Bundle) -> Parts:
    """Preprocessing and the network with its head as ONNX, compared with torch on rows of train."""
    from torch import nn

    from windlass.compression.export import export_core
    from windlass.compression.preprocess import preprocessing_graph
    from windlass.models import load

    signature = task.signature(bundle.description)
    (output,) = signature.outputs
    for tensor in signature.inputs:
        if tensor.name == output.name:
            raise NameCollisionError(tensor.name)
    spec, module = load(model)
    network = nn.Sequential(module, task.head(bundle.description)).eval()
    core = export_core(network, spec.input_shape, output=output.name, architecture=spec.architecture)
    opset = next(entry.version for entry in core.opset_import if entry.domain == "")
    preprocessing = preprocessing_graph(bundle.description, signature, opset=opset, ir_version=core.ir_version)
    parts = Parts(signature=signature, preprocessing=preprocessing, core=core)
    _check_answers(parts, network, bundle, spec.architecture)
    return parts


def _check_answers(parts: Parts, network: nn.Module, bundle: Bundle, architecture: str) -> None:
    """Refuse an export that answers otherwise than the network: a branch that was taken for a constant, say."""
    import onnxruntime
    import torch
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

    session = onnxruntime.InferenceSession(parts.core.SerializeToString(), providers=["CPUExecutionProvider"])
    for features in parts.features(bundle, _CHECKED_ROWS):
        with torch.no_grad():
            wanted = network(torch.from_numpy(features)).numpy()
        for rows in (slice(0, 1), slice(None)):
            try:
                found = session.run(None, {session.get_inputs()[0].name: features[rows]})[0]
            except (Fail, InvalidArgument, RuntimeException) as error:
                cause = f"it takes no batch of {len(features[rows])} rows in ONNX: {error}"
                raise ExportError(architecture, cause) from error
            if found.shape != wanted[rows].shape:
                raise ExportError(architecture, f"ONNX gives the shape {found.shape}, torch {wanted[rows].shape}")
            difference = float(np.abs(found - wanted[rows]).max())
            # Relative to the largest answer: a number in its own unit may be millions, and be near zero for one row.
            if not difference <= _EXPORT_TOLERANCE * max(1.0, float(np.abs(wanted).max())):
                raise ExportError(architecture, f"its answers in ONNX differ from torch by {difference:.3g}")


def _spaced_rows(bundle: Bundle, split: Any, rows: int) -> Iterator[Any]:
    """Record batches that together hold about `rows` rows, evenly spaced over the split; shards may be sorted."""
    stride = max(1, bundle.description.rows[split] // rows)
    position = 0
    for batch in bundle.batches(split, _READ_ROWS):
        indices = np.arange(-position % stride, batch.num_rows, stride)
        position += batch.num_rows
        if len(indices):
            yield batch.take(indices)


def _write_golden(variant: Variant, output: Path, bundle: Bundle, uncompressed: Path) -> None:
    from windlass.variants import golden, open_variant
    from windlass.variants.engines import load_engine

    engine = load_engine(output, variant, threads=1)
    reference = load_engine(uncompressed, open_variant(uncompressed), threads=1)
    examples = golden.make(engine, _golden_rows(bundle), uncompressed=reference, tolerance=_TOLERANCE[variant.name])
    examples.write(output / GOLDEN_NAME)


def _golden_rows(bundle: Bundle) -> list[Any]:
    """Rows of validation, if it has some, as a caller sends them; of a table, also one whose first value is missing."""
    from windlass.data.features import serving_rows

    rows: list[Any] = []
    split = "validation" if bundle.description.rows["validation"] else "train"
    for batch in _spaced_rows(bundle, split, _GOLDEN_ROWS):
        rows += serving_rows(bundle.description, batch)
    rows = rows[:_GOLDEN_ROWS]
    if bundle.description.modality == "images":
        return rows
    first = rows[0]
    missing = {**first, next(iter(first)): None} if isinstance(first, dict) else [None, *first[1:]]
    return [*rows, missing]
