"""Which tests run where CUDA is, and which where it is not."""

from __future__ import annotations

import onnxruntime
import pytest

from windlass.variants.engines import DeviceUnavailableError, check_device


def _has_cuda() -> bool:
    try:
        check_device("cuda")
    except DeviceUnavailableError:
        return False
    return True


BUILT_FOR_CUDA = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
on_cuda = pytest.mark.skipif(not BUILT_FOR_CUDA or not _has_cuda(), reason="ONNX Runtime cannot use CUDA here")
without_cuda = pytest.mark.skipif(BUILT_FOR_CUDA, reason="this ONNX Runtime is built for CUDA")
