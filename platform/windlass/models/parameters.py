"""The parameters of each architecture, with their defaults. Imports no torch."""

from __future__ import annotations

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from windlass.schema import Section


class LinearParameters(Section):
    """One linear layer; it has no parameters."""


class MlpParameters(Section):
    """Fully connected layers with ReLU between them."""

    hidden: tuple[PositiveInt, ...] = Field(default=(128, 128), description="width of each hidden layer")
    dropout: NonNegativeFloat = Field(default=0.0, lt=1, description="share of hidden units left out in training")
    batch_norm: bool = Field(default=False, description="normalize each hidden layer over the batch")


class CnnParameters(Section):
    """3×3 convolutions with ReLU; each but the first halves the image while its smaller side is at least 8."""

    channels: tuple[PositiveInt, ...] = Field(
        default=(), description="of each convolution; default: 16, 32, 64 and so on, as many as it takes to halve"
    )
    hidden: NonNegativeInt = Field(default=0, description="width of a layer after the convolutions; 0 for none")
    dropout: NonNegativeFloat = Field(default=0.0, lt=1, description="share left out before the last layer in training")
    batch_norm: bool = Field(default=False, description="normalize each convolution over the batch")


PARAMETERS: dict[str, type[Section]] = {"mlp": MlpParameters, "cnn": CnnParameters, "linear": LinearParameters}
