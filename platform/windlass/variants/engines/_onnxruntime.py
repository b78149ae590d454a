"""ONNX Runtime, on the CPU or on a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_errors

from windlass.variants._bundle import InvalidVariantError
from windlass.variants._onnx_safety import read_onnx
from windlass.variants.engines import PredictionError
from windlass.variants.engines._devices import SESSION_CONFIG, Device, open_session
from windlass.variants.signature import Signature, TensorSpec
from windlass.variants.variant import Variant

Array = np.ndarray[Any, np.dtype[Any]]

_RUNTIME_ERRORS = (
    runtime_errors.EPFail,
    runtime_errors.EngineError,
    runtime_errors.Fail,
    runtime_errors.InvalidArgument,
    runtime_errors.InvalidGraph,
    runtime_errors.InvalidProtobuf,
    runtime_errors.NoModel,
    runtime_errors.NotImplemented,
    runtime_errors.RuntimeException,
)
_TYPE_NAMES = {
    "float32": "tensor(float)",
    "int64": "tensor(int64)",
    "uint8": "tensor(uint8)",
    "string": "tensor(string)",
}
_ERRORS_ONLY = 3


class OnnxRuntimeEngine:
    """One session; several threads may call `predict` at once."""

    def __init__(self, session: onnxruntime.InferenceSession, signature: Signature) -> None:
        self._session = session
        self._signature = signature
        self._output_names = [output.name for output in signature.outputs]

    @classmethod
    def load(
        cls, directory: Path, variant: Variant, *, threads: int, workers: int, device: Device
    ) -> OnnxRuntimeEngine:
        # The bytes that were checked are the bytes that are loaded, whatever happens to the file meanwhile.
        model = read_onnx(directory / variant.files[0])
        try:
            session = open_session(model, session_options(threads, workers), device)
        except _RUNTIME_ERRORS as error:
            raise InvalidVariantError(directory, f"{variant.files[0]} does not load: {error}") from error
        _check_tensors(directory, "input", session.get_inputs(), variant.signature.inputs)
        _check_tensors(directory, "output", session.get_outputs(), variant.signature.outputs)
        return cls(session, variant.signature)

    @property
    def signature(self) -> Signature:
        return self._signature

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        try:
            outputs = self._session.run(self._output_names, inputs)
        except _RUNTIME_ERRORS as error:
            raise PredictionError from error
        return dict(zip(self._output_names, outputs, strict=True))


def session_options(threads: int, workers: int) -> onnxruntime.SessionOptions:
    """How a model is run in one of `workers` processes with `threads` threads each."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.use_deterministic_compute = True
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.load_model_format", "ONNX")
    for key, value in SESSION_CONFIG.items():
        options.add_session_config_entry(key, value)
    # A thread that spins while it waits takes the core from another worker.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if workers == 1 else "0")
    return options


def _check_tensors(
    directory: Path, role: str, found: list[onnxruntime.NodeArg], expected: tuple[TensorSpec, ...]
) -> None:
    by_name = {tensor.name: tensor for tensor in found}
    if role == "input" and by_name.keys() != {spec.name for spec in expected}:
        raise InvalidVariantError(directory, f"the model's inputs are {sorted(by_name)}, not those of the signature")
    for spec in expected:
        tensor = by_name.get(spec.name)
        if tensor is None:
            raise InvalidVariantError(directory, f"the model has no {role} {spec.name!r}")
        if tensor.type != _TYPE_NAMES[spec.dtype] or not _shape_fits(tensor.shape, spec.shape):
            raise InvalidVariantError(
                directory,
                f"the model's {role} {spec.name!r} is {tensor.type} {tensor.shape}, not {spec.dtype} {spec.shape}",
            )


def _shape_fits(found: list[int | str | None], expected: tuple[int | None, ...]) -> bool:
    """An axis that the model leaves open fits any length; one that it fixes has to be the signature's."""
    return len(found) == len(expected) and all(
        not isinstance(length, int) or length == wanted for length, wanted in zip(found, expected, strict=True)
    )
