"""`model.json`: an architecture as data."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt

from windlass.schema import Document, Section

MODEL_NAME = "model.json"
WEIGHTS_NAME = "model.safetensors"
MODULE_NAME = "module.py"
HISTORY_NAME = "history.jsonl"
STEPS_NAME = "steps.jsonl"


class Resized(Section):
    """A module that lost channels, neurons or features: its sizes and the shapes of its own tensors since then."""

    kind: Literal["resized"] = "resized"
    path: str
    """From the network to the module, as in `named_modules()`; empty for the network itself."""
    sizes: dict[str, PositiveInt | tuple[PositiveInt, ...]]
    """Attributes such as `in_features` or `out_channels`."""
    shapes: dict[str, tuple[PositiveInt, ...]]
    """Of parameters and buffers, by name."""


class Factorized(Section):
    """A linear or 1x1 convolution that became two: to `rank` numbers, and from there to its outputs."""

    kind: Literal["factorized"] = "factorized"
    path: str
    rank: PositiveInt


Edit = Annotated[Resized | Factorized, Field(discriminator="kind")]


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
    edits: tuple[Edit, ...] = ()
    """What compression changed in the network after it was built, in this order."""
