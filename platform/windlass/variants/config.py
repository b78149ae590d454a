"""The recipe's `serve` section."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from windlass.schema import Section
from windlass.variants.engines import Device


class ServeConfig(Section):
    """How a version is served, and so how each candidate is measured."""

    workers: PositiveInt = Field(default=1, description="gateway processes that answer requests")
    threads: PositiveInt = Field(default=1, description="threads of the engine in each worker")
    device: Device = Field(
        default="cpu", description="what the engine runs on; cuda: an NVIDIA GPU, by the package onnxruntime-gpu"
    )
