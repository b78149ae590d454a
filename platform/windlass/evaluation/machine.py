"""What figures of latency and memory hold for."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path

from windlass.variants.engines import Device, DeviceUnavailableError

_LISTING_TIMEOUT_S = 30.0


def machine(device: Device = "cpu") -> str:
    """The processor and how many cores this process may use; on CUDA also the GPUs that it sees.

    Raises:
        DeviceUnavailableError: the driver names no GPU.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    described = f"{_processor()}, {cores} cores, {platform.system()}"
    return described if device == "cpu" else f"{described}, {_gpus()}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpus() -> str:
    """The names of GPUs and of the parts that they are divided into, with which of them is visible if not all are."""
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=_LISTING_TIMEOUT_S, check=True
        ).stdout
    except (subprocess.SubprocessError, OSError) as error:
        raise DeviceUnavailableError(
            "cuda", f"nvidia-smi: {error}", "install NVIDIA's driver with its tools"
        ) from error
    names = ", ".join(re.sub(r"\(UUID: .*?\)", "", line).strip() for line in listed.splitlines())
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return names if visible is None else f"{names}, CUDA_VISIBLE_DEVICES={visible}"
