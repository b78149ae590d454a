"""`model.json`: an architecture as data."""

from __future__ import annotations

from typing import Any, Literal

from windlass.schema import Document

MODEL_NAME = "model.json"
WEIGHTS_NAME = "model.safetensors"
MODULE_NAME = "module.py"
HISTORY_NAME = "history.jsonl"
STEPS_NAME = "steps.jsonl"


class ModelSpec(Document):
    """How to build the network whose weights lie in `model.safetensors`.

    The network maps float32 features, [B, *input_shape], to float32 [B, num_outputs] logits, or to [B, 1] for
    a number. `input_shape` is (D,) for encoded tables and (C, H, W) for images.
    """

    format_version: Literal[1] = 1
    architecture: str
    """mlp, cnn, linear, or `module:NAME` for the class NAME in the module.py beside this file."""
    parameters: dict[str, Any]
    input_shape: tuple[int, ...]
    num_outputs: int
    module_sha256: str | None = None
