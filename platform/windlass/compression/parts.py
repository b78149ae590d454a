"""A served graph in the two parts that it is made of: preprocessing, and the network with its head."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from windlass.compression.errors import ExportError, NameCollisionError
from windlass.tasks import Task
from windlass.variants.signature import Signature

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from windlass.data.bundle import Bundle

    Array = np.ndarray[Any, np.dtype[Any]]

_EXPORT_TOLERANCE = 1e-4
_CHECKED_ROWS = 64
_READ_ROWS = 1024


@dataclass(frozen=True)
class Parts:
    """A served graph before it is joined: only the core is ever compressed."""

    signature: Signature
    preprocessing: onnx.ModelProto
    core: onnx.ModelProto

    def served(self, core: onnx.ModelProto) -> onnx.ModelProto:
        """One graph from raw rows to answers."""
        import onnx
        from onnx import compose, version_converter

        from windlass.compression.preprocess import FEATURES
        from windlass.compression.slim import slim

        core = compose.add_prefix(core, "core/", rename_inputs=False, rename_outputs=False)
        preprocessing = self.preprocessing
        if _opset(core) != _opset(preprocessing):
            preprocessing = version_converter.convert_version(preprocessing, _opset(core))
        joined = compose.merge_models(preprocessing, core, io_map=[(FEATURES, FEATURES)])
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
        for batch in spaced_rows(bundle, "train", rows):
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
    preprocessing = preprocessing_graph(bundle.description, signature, opset=_opset(core), ir_version=core.ir_version)
    parts = Parts(signature=signature, preprocessing=preprocessing, core=core)
    _check_answers(parts, network, bundle, spec.architecture)
    return parts


def _opset(model: onnx.ModelProto) -> int:
    """Of ONNX's own operators; `int4` needs a later one than the exporter writes."""
    version: int = next(entry.version for entry in model.opset_import if entry.domain == "")
    return version


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


def spaced_rows(bundle: Bundle, split: Any, rows: int) -> Iterator[Any]:
    """Record batches that together hold about `rows` rows, evenly spaced over the split; shards may be sorted."""
    stride = max(1, bundle.description.rows[split] // rows)
    position = 0
    for batch in bundle.batches(split, _READ_ROWS):
        indices = np.arange(-position % stride, batch.num_rows, stride)
        position += batch.num_rows
        if len(indices):
            yield batch.take(indices)
