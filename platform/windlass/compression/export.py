"""A trained network as an ONNX graph."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from windlass.compression.errors import ExportError
from windlass.compression.preprocess import FEATURES

if TYPE_CHECKING:
    import onnx
    from torch import nn

_EXAMPLE_ROWS = 2
"""Not 1: the exporter takes a length of one for a constant."""


def export_core(network: nn.Module, input_shape: tuple[int, ...], *, output: str, architecture: str) -> onnx.ModelProto:
    """The network, head included, as ONNX: `features` float32 [B, *input_shape] to `output`, for any B.

    Batch norm is folded into the layer before it, and dropout is gone, as always when a model answers.

    Raises:
        ExportError: the network does something that has no ONNX form.
    """
    import torch
    from torch.onnx import OnnxExporterError

    network = network.eval()
    features = torch.zeros(_EXAMPLE_ROWS, *input_shape)
    try:
        with _quiet_exporter(), torch.no_grad():
            program = torch.onnx.export(
                network,
                (features,),
                dynamo=True,
                input_names=[FEATURES],
                output_names=[output],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
    except OnnxExporterError as error:
        raise ExportError(architecture, _first_line(error)) from error
    assert program is not None
    return program.model_proto


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Without what the exporter says about itself: absent torchvision, and a deprecation inside torch."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)`", category=FutureWarning)
            yield
    finally:
        logger.setLevel(level)


def _first_line(error: BaseException) -> str:
    """The innermost cause in one line: the exporter wraps it in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__
