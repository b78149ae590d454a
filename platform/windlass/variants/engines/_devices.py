"""On what an engine runs: ONNX Runtime's providers, and whether this machine has what they need."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from windlass.errors import InvalidInputError

if TYPE_CHECKING:
    import onnxruntime

Device = Literal["cpu", "cuda"]

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
CUDA_OPTIONS = {
    # Otherwise Ampere and later multiply fp32 with 10 bits of mantissa: golden examples are made with all 23.
    "use_tf32": "0",
    # The default takes the algorithm of cuDNN that was fastest when it loaded: two loads, two roundings.
    "cudnn_conv_algo_search": "HEURISTIC",
    # The default doubles its memory each time it needs more; workers and versions share one GPU.
    "arena_extend_strategy": "kSameAsRequested",
}
SESSION_CONFIG = {
    # At its highest level ONNX Runtime brings weights in fp16 back to fp32 on the CPU, and crashes over some graphs
    # (1.32: a transposed input of a product; microsoft/onnxruntime#26717 for others).
    "optimization.disable_specified_optimizers": "FuseFp16InitializerToFp32NodeTransformer",
}
"""What every session of ONNX Runtime that loads our models has to be given."""
_INSTALL = "pip uninstall -y onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]'"
_PROBE = (
    b"\x08\x08:;\n\x10\n\x01x\x12\x01y\x22\x08Identity\x12\x05probe"
    b"Z\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01"
    b"B\x04\n\x00\x10\x11"
)
"""A model that answers what it is asked, as an ONNX file: the gateway has no package that could write one."""
_PROBE_TIMEOUT_S = 120.0


class DeviceUnavailableError(InvalidInputError):
    """Models cannot be run on this device here."""

    def __init__(self, device: Device, cause: str, action: str) -> None:
        super().__init__(f"{device} cannot be used here: {cause}; {action}, or take cpu")
        self.device, self.cause, self.action = device, cause, action


def check_build(device: Device) -> None:
    """Pass if the installed ONNX Runtime is built for the device; no GPU is asked.

    Raises:
        DeviceUnavailableError: it is not.
    """
    if device == "cpu":
        return
    import onnxruntime

    if CUDA not in onnxruntime.get_available_providers():
        raise DeviceUnavailableError(
            device, f"onnxruntime {onnxruntime.__version__} is installed, which is built without CUDA", f"`{_INSTALL}`"
        )


@cache  # of what passed: a run measures many candidates
def check_device(device: Device) -> None:
    """Pass if this machine runs models on the device: a process tries one, since a driver stays in who loads it.

    Raises:
        DeviceUnavailableError: ONNX Runtime, CUDA's libraries, the driver or the GPU is missing.
    """
    if device == "cpu":
        return
    check_build(device)
    try:
        tried = subprocess.run(
            [sys.executable, "-c", f"from {__name__} import try_cuda; try_cuda()"],
            capture_output=True,
            text=True,
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceUnavailableError(
            device, f"a model of one operator did not load within {_PROBE_TIMEOUT_S:g} s", "look at `nvidia-smi`"
        ) from error
    if tried.returncode:
        raise _no_cuda(tried.stderr)


def open_session(model: bytes, options: onnxruntime.SessionOptions, device: Device) -> onnxruntime.InferenceSession:
    """A session on the device and on nothing else: operators without a CUDA kernel, of strings say, stay on the CPU.

    Raises:
        DeviceUnavailableError: ONNX Runtime cannot use the device, and would have answered on the CPU instead.
        One of ONNX Runtime's own errors: the model does not load.
    """
    import onnxruntime

    if device == "cpu":
        return onnxruntime.InferenceSession(model, sess_options=options, providers=[CPU])
    check_build(device)
    onnxruntime.preload_dlls()  # those that pip has installed beside it
    session = onnxruntime.InferenceSession(model, sess_options=options, providers=providers(device))
    if CUDA not in session.get_providers():
        raise _no_cuda("")
    session.disable_fallback()
    return session


def providers(device: Device) -> list[Any]:
    """As `InferenceSession` takes them, with their options."""
    return [CPU] if device == "cpu" else [(CUDA, CUDA_OPTIONS), CPU]


def _no_cuda(log: str) -> DeviceUnavailableError:
    """The refusal of what ONNX Runtime does by itself where CUDA does not load: answer on the CPU.

    Args:
        log: what the process that tried it wrote on standard error; empty if that was this one.
    """
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    reason = next((line for line in lines if "[E:onnxruntime" in line), lines[-1] if lines else "the log says why")
    return DeviceUnavailableError(
        "cuda",
        f"ONNX Runtime does not load its CUDA provider: {reason}",
        "see that `nvidia-smi` shows a GPU, and that CUDA and cuDNN are those of your onnxruntime-gpu: `"
        + _INSTALL
        + "`",
    )


def try_cuda() -> None:
    """Load a model of one operator on CUDA; ONNX Runtime says on standard error why it does not.

    Raises:
        DeviceUnavailableError: it does not load there.
    """
    import onnxruntime

    open_session(_PROBE, onnxruntime.SessionOptions(), "cuda")
