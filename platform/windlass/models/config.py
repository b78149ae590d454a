"""The recipe's `model` section."""

from __future__ import annotations

from pydantic import Field

from windlass.schema import Section


class ModelConfig(Section):
    """Which network to train."""

    architecture: str | None = Field(
        default=None, description="mlp, cnn, linear, or my_model.py:Net; each task has a default"
    )
    parameters: dict[str, int | float | bool | str | tuple[int, ...]] = Field(
        default={}, description="the architecture's own parameters, such as hidden sizes, dropout, batch norm"
    )
