"""What runs a variant. An engine's own packages are imported when it is loaded, not before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from windlass.errors import WindlassError
from windlass.variants.engines._devices import (
    SESSION_CONFIG,
    Device,
    DeviceUnavailableError,
    check_build,
    check_device,
)
from windlass.variants.signature import Signature
from windlass.variants.variant import Variant

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

__all__ = [
    "SESSION_CONFIG",
    "Device",
    "DeviceUnavailableError",
    "Engine",
    "PredictionError",
    "check_build",
    "check_device",
    "load_engine",
]


class PredictionError(WindlassError):
    """The engine failed on inputs that fit the signature. The cause has the engine's own words."""

    def __init__(self) -> None:
        super().__init__("the model failed on these rows; see the log of the process that runs it")


class Engine(Protocol):
    """A loaded variant. Its answers to the same inputs are the same, bit for bit, on one machine.

    On CUDA ONNX Runtime asks for deterministic kernels and promises nothing: there they are the same within the
    tolerance of the golden examples.
    """

    @property
    def signature(self) -> Signature: ...

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model once on the signature's inputs; gives the signature's outputs.

        Raises:
            PredictionError: the model failed on these inputs.
        """
        ...


def load_engine(directory: Path, variant: Variant, threads: int, *, workers: int = 1, device: Device = "cpu") -> Engine:
    """Load an opened variant with `threads` threads a call, in one of `workers` processes that do the same.

    Args:
        device: where the model runs; on CUDA `threads` are for the operators that have no kernel there.

    Raises:
        DeviceUnavailableError: the device cannot be used on this machine.
        UnsafeModelError: the model's file is not of its format, or asks for what is never allowed.
        InvalidVariantError: the model does not load, or its inputs or outputs are not those of the signature.
    """
    from windlass.variants.engines._onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine.load(directory, variant, threads=threads, workers=workers, device=device)
