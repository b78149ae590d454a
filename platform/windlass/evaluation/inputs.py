"""The engine's inputs as files: how rows reach the measuring process without pickle and without pyarrow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def write_inputs(path: Path, inputs: Mapping[str, Array]) -> None:
    """Write tensors by name; text is stored at a fixed width. Members are numbered: a column may have any name."""
    stored = [tensor.astype(str) if tensor.dtype.kind == "O" else tensor for tensor in inputs.values()]
    with path.open("wb") as file:
        np.savez(file, np.array(list(inputs)), *stored)


def read_inputs(path: Path) -> dict[str, Array]:
    """What `write_inputs` wrote, text as Python strings again."""
    with np.load(path, allow_pickle=False) as arrays:
        names = arrays["arr_0"].tolist()
        tensors = [arrays[f"arr_{index}"] for index in range(1, len(names) + 1)]
    return {
        name: tensor.astype(object) if tensor.dtype.kind == "U" else tensor
        for name, tensor in zip(names, tensors, strict=True)
    }
