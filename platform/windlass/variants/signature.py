"""What goes into a served model and what comes out, as data that the gateway can read."""

from __future__ import annotations

from typing import Literal

from windlass.schema import Section

TensorType = Literal["float32", "int64", "uint8", "string"]


class TensorSpec(Section):
    """One tensor by name; `None` in its shape is an axis of any length, the first one being the batch."""

    name: str
    dtype: TensorType
    shape: tuple[int | None, ...]


class ColumnSpec(Section):
    """One column of a table as a caller sends it."""

    name: str
    type: Literal["number", "category"]


class Signature(Section):
    """Inputs and outputs of a model.

    A table of numbers only is one float32 input [B, F] whose columns stand in the order of `columns`. Any other
    table has one rank-1 input per column: float32 for numbers, string for categories. Images are one uint8 input
    [B, H, W, C]. The output is `probabilities` float32 [B, C], in the order of `class_names`, or `value` float32 [B].
    """

    kind: Literal["tensors"] = "tensors"
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    columns: tuple[ColumnSpec, ...] | None = None
    class_names: tuple[str, ...] | None = None
