"""A model in the form in which it is served."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from windlass.schema import Document, Section
from windlass.storage import Reference
from windlass.variants.signature import Signature

VARIANT_NAME = "variant.json"
GOLDEN_NAME = "golden.json"
SENSITIVITY_NOTE = "sensitivity/"
"""Before a layer's name: how far the answers move if only that layer is quantized, as noise by signal."""
IN_FP32_NOTE = "fp32/"
"""Before the name of a layer that stayed in fp32; its value is 1."""


class Origin(Section):
    """How a variant was made: one method after another, from which model."""

    model: Reference
    methods: tuple[str, ...]
    """Such as ("pruned-30", "int8"); empty for the uncompressed model."""
    notes: dict[str, float] = Field(default_factory=dict)
    """What a method found out while it made the variant, by name: of `int8-mixed`, SENSITIVITY_NOTE and IN_FP32_NOTE
    with the layer's name."""


class Variant(Document):
    """`variant.json` of a published variant; the files beside it are what its engine loads.

    `batch_invariant` is None until evaluation has measured it; only invariant variants are ever merged with
    other requests.
    """

    format_version: Literal[1] = 1
    name: str
    task: str
    format: Literal["onnx"]
    engine: Literal["onnxruntime"]
    preprocessing: Literal["graph"]
    signature: Signature
    files: tuple[str, ...]
    """What the engine loads, relative to the directory; `max_size` counts these."""
    origin: Origin
    batch_invariant: bool | None = None


class GoldenExamples(Document):
    """`golden.json`: rows as a caller sends them, and the answers that this version must give to them.

    `outputs` are this variant's answers at batch 1 and `uncompressed` those of the uncompressed model, each by
    output name and row. An answer is right when it is within `tolerance` of `outputs`, absolute and relative.
    """

    format_version: Literal[1] = 1
    rows: list[Any]
    outputs: dict[str, list[Any]]
    uncompressed: dict[str, list[Any]]
    tolerance: float
