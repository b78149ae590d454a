"""An ONNX file is walked as bytes before any runtime parses it.

ONNX Runtime parses with the default limits of protobuf, opens the files that external tensors name, and allocates
what dims declare. This walk follows protobuf's wire format through the messages of onnx.proto3
(https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3) that can hold tensors, types or graphs, copies nothing,
and refuses what no model of ours contains.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from windlass.variants.formats import UnsafeModelError, read_bounded, refuse_foreign_format

_MAX_FILE_BYTES = (1 << 31) - 1
"""The most that protobuf itself parses."""
_MAX_DEPTH = 64
_MAX_FIELDS = 2_000_000
_MAX_ELEMENTS = 1 << 31
_MAX_VALUES_PER_BYTE = 4
"""The narrowest type of ONNX has two bits."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# Message to field number to message: what is walked. Other fields hold text or numbers.
_CHILDREN: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 11: "ValueInfo", 12: "ValueInfo", 13: "ValueInfo", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {
        5: "Tensor",
        6: "Graph",
        10: "Tensor",
        11: "Graph",
        14: "Type",
        15: "Type",
        22: "SparseTensor",
        23: "SparseTensor",
    },
    "Function": {7: "Node", 11: "Attribute", 12: "ValueInfo"},
    "ValueInfo": {2: "Type"},
    "Type": {1: "TensorType", 4: "SequenceType", 5: "MapType", 8: "TensorType", 9: "SequenceType"},
    "SequenceType": {1: "Type"},
    "MapType": {2: "Type"},
    "TensorType": {2: "Shape"},
}
_TENSOR_DIMS, _TENSOR_STRINGS, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 1, 6, 13, 14
_TENSOR_DATA = (4, 5, 7, 9, 10, 11)
_SHAPE_DIMENSION, _DIMENSION_VALUE = 1, 1

_Field = tuple[int, int, int, int]
"""Number, wire type, value, end. Of bytes, the value is where they start."""


def read_onnx(path: Path) -> bytes:
    """The bytes of an ONNX model that is safe to give to a runtime: whole in itself, bounded, well-formed.

    Raises:
        UnsafeModelError: the file is a link, too large, of another format, refers to other files, declares more
            elements than it holds, or is nested too deep.
    """
    model = read_bounded(path, _MAX_FILE_BYTES)
    refuse_foreign_format(path, model, "onnx")
    _Walk(path, model).run()
    return model


class _Walk:
    def __init__(self, path: Path, model: bytes) -> None:
        self._path = path
        self._model = memoryview(model)
        self._num_fields = 0

    def run(self) -> None:
        # A stack of our own: the depth of the file must not become the depth of Python's.
        pending = [("Model", 0, len(self._model), 0)]
        has_graph = False
        while pending:
            message, start, end, depth = pending.pop()
            fields = self._fields(start, end)
            if depth > _MAX_DEPTH:
                raise self._error(f"it is nested deeper than {_MAX_DEPTH} levels")
            if message == "Tensor":
                self._check_tensor(fields)
            elif message == "Shape":
                self._check_shape(fields)
            elif message == "SparseTensor":
                raise self._error("it holds a sparse tensor, whose dense form has no bound")
            else:
                children = _CHILDREN[message]
                pending += [
                    (children[number], value, stop, depth + 1)
                    for number, wire, value, stop in fields
                    if wire == _BYTES and number in children
                ]
                has_graph = has_graph or message == "Graph"
        if not has_graph:
            raise self._error("it holds no graph, so it is not ONNX")

    def _check_shape(self, fields: Iterator[_Field]) -> None:
        dims = [
            _signed(length)
            for number, wire, value, stop in fields
            if number == _SHAPE_DIMENSION and wire == _BYTES
            for field, kind, length, _ in self._fields(value, stop)
            if field == _DIMENSION_VALUE and kind == _VARINT
        ]
        if any(dim < 0 for dim in dims) or math.prod(dims[:_MAX_DEPTH]) > _MAX_ELEMENTS or len(dims) > _MAX_DEPTH:
            raise self._error(f"an input, an output or a value has the shape {dims[:8]}")

    def _check_tensor(self, fields: Iterator[_Field]) -> None:
        dims: list[int] = []
        data_bytes = 0
        for number, wire, value, stop in fields:
            if number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and value != 0):
                raise self._error("a tensor lies in another file (external data)")
            if number == _TENSOR_DIMS:
                packed = self._varints(value, stop) if wire == _BYTES else (value,)
                dims += [_signed(dim) for dim in packed]
            elif number == _TENSOR_STRINGS:
                data_bytes += 1
            elif number in _TENSOR_DATA:
                data_bytes += stop - value if wire == _BYTES else 1
        elements = math.prod(dims[:_MAX_DEPTH])
        holds_them = elements <= min(_MAX_ELEMENTS, data_bytes * _MAX_VALUES_PER_BYTE)
        if len(dims) > _MAX_DEPTH or any(dim < 0 for dim in dims) or not holds_them:
            raise self._error(f"a tensor declares the dims {dims[:8]} and holds {data_bytes:,} bytes")

    def _fields(self, start: int, end: int) -> Iterator[_Field]:
        position = start
        while position < end:
            self._num_fields += 1
            if self._num_fields > _MAX_FIELDS:
                raise self._error(f"it holds over {_MAX_FIELDS:,} parts")
            tag, position = self._varint(position, end)
            number, wire = tag >> 3, tag & 7
            if number == 0:
                raise self._error("it is not in protobuf's wire format")
            if wire == _VARINT:
                value, position = self._varint(position, end)
                yield number, wire, value, position
                continue
            if wire == _BYTES:
                length, position = self._varint(position, end)
            elif wire in (_FIXED64, _FIXED32):
                length = 8 if wire == _FIXED64 else 4
            else:
                raise self._error("it is not in protobuf's wire format")
            if length > end - position:
                raise self._error("it is cut off or not in protobuf's wire format")
            yield number, wire, position, position + length
            position += length

    def _varints(self, start: int, end: int) -> Iterator[int]:
        while start < end:
            value, start = self._varint(start, end)
            yield value

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        if position < end and self._model[position] < 0x80:
            return self._model[position], position + 1
        value = 0
        for shift in range(0, 70, 7):
            if position >= end:
                raise self._error("it is cut off or not in protobuf's wire format")
            byte = self._model[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFF_FFFF_FFFF_FFFF, position
        raise self._error("it is not in protobuf's wire format")

    def _error(self, problem: str) -> UnsafeModelError:
        return UnsafeModelError(self._path, problem)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
