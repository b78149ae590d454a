"""Weights stored in half precision. It halves the file and nothing else: the CPU computes in fp32 as before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

from windlass.compression.errors import NotApplicableError
from windlass.compression.methods.method import Compressed, GraphMethod

if TYPE_CHECKING:
    import onnx

    from windlass.compression.config import CompressConfig
    from windlass.compression.methods.method import Array

_MIN_ELEMENTS = 64
"""What a smaller tensor saves, the operator that widens it takes again."""
_STORED = "/fp16"


@dataclass(frozen=True)
class Fp16(GraphMethod):
    """Weights as float16, widened when the model is loaded."""

    form: ClassVar[str] = "fp16"
    summary: ClassVar[str] = "weights stored in 16 bits: half the file; memory and latency stay those of fp32"
    tolerance: ClassVar[float] = 1e-4
    """As of fp32: the rounding is in the file, the arithmetic is the same."""

    @override
    def apply(self, core: onnx.ModelProto, batches: Sequence[Array], config: CompressConfig) -> Compressed:
        return Compressed(store_in_halves(core))


def store_in_halves(core: onnx.ModelProto) -> onnx.ModelProto:
    """The core with its float32 constants as float16 and a Cast to float32 after each.

    A constant with a value that float16 cannot hold, over 65,504, stays as it is.

    Raises:
        NotApplicableError: no constant is large enough and narrow enough.
    """
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    halved = onnx.ModelProto()
    halved.CopyFrom(core)
    casts = []
    for constant in halved.graph.initializer:
        if constant.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(constant)
        if values.size < _MIN_ELEMENTS or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        name = constant.name
        constant.CopyFrom(numpy_helper.from_array(values.astype(np.float16), name + _STORED))
        casts.append(helper.make_node("Cast", [name + _STORED], [name], to=TensorProto.FLOAT))
    if not casts:
        raise NotApplicableError(Fp16.form, f"the network has no weight of {_MIN_ELEMENTS} or more values")
    nodes = [*casts, *halved.graph.node]
    del halved.graph.node[:]
    halved.graph.node.extend(nodes)
    return halved
