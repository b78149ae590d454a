"""What goes into a served model and what comes out, as data that the gateway can read."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

from windlass.schema import Section

TensorType = Literal["float32", "int64", "uint8", "string"]
InputForm = Literal["matrix", "columns", "images"]

PROBABILITIES = "probabilities"
VALUE = "value"


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

    @cached_property
    def form(self) -> InputForm:
        """How a caller's rows become tensors: one matrix of numbers, one tensor per column, or images."""
        if self.columns is None:
            return "images"
        return "matrix" if len(self.inputs) == 1 and len(self.inputs[0].shape) == 2 else "columns"

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        """In the order of `columns`; none of images."""
        return tuple(column.name for column in self.columns or ())

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one image; for the form `images` only."""
        _, height, width, channels = self.inputs[0].shape
        assert height is not None
        assert width is not None
        assert channels is not None
        return height, width, channels

    def problem(self) -> str | None:
        """What contradicts the description above, as a clause, or None."""
        return self._input_problem() or self._output_problem()

    def _input_problem(self) -> str | None:
        if self.columns is None:
            return None if self._is_images() else "the input is neither a table nor one uint8 tensor [B, H, W, C]"
        names = [column.name for column in self.columns]
        if not names or len(set(names)) != len(names):
            return "the columns are none or share a name"
        if self.form == "matrix":
            is_matrix = self.inputs[0].dtype == "float32" and self.inputs[0].shape == (None, len(names))
            numbers = all(column.type == "number" for column in self.columns)
            return None if is_matrix and numbers else f"the matrix is not float32 [B, {len(names)}] of numbers"
        dtypes = {"number": "float32", "category": "string"}
        expected = tuple(TensorSpec(name=c.name, dtype=dtypes[c.type], shape=(None,)) for c in self.columns)
        return None if self.inputs == expected else "the inputs are not one rank-1 tensor per column, in order"

    def _is_images(self) -> bool:
        if len(self.inputs) != 1 or self.inputs[0].dtype != "uint8" or len(self.inputs[0].shape) != 4:
            return False
        batch, height, width, channels = self.inputs[0].shape
        return batch is None and bool(height) and bool(width) and channels in (1, 3)

    def _output_problem(self) -> str | None:
        if len(self.outputs) != 1:
            return "there is not exactly one output"
        output = self.outputs[0]
        if self.class_names is None:
            is_value = (output.name, output.dtype, output.shape) == (VALUE, "float32", (None,))
            return None if is_value else "without class names the output is not `value` float32 [B]"
        shape = (None, len(self.class_names))
        is_probabilities = (output.name, output.dtype, output.shape) == (PROBABILITIES, "float32", shape)
        return None if is_probabilities else f"the output is not `probabilities` float32 [B, {len(self.class_names)}]"
