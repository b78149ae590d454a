"""What all methods of compression have in common. Adding one: a file here with a class, listed in `METHODS`.

Reading a recipe imports these modules, so they import numpy, ONNX and torch only where they use them.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from typing_extensions import override

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from torch import nn

    from windlass.compression.config import CompressConfig
    from windlass.models.spec import ModelSpec
    from windlass.training.config import TrainConfig
    from windlass.training.documents import Learning

    Array = np.ndarray[Any, np.dtype[Any]]


Calibration = Literal["minmax", "percentile", "entropy"]
"""How the ranges of activations are found; see `_quantizer.find_ranges`."""


class Method(ABC):
    """One way to make a model smaller, with its strength: one link of a candidate's chain."""

    form: ClassVar[str]
    """How its name is written, for people: `pruned-PERCENT`."""
    summary: ClassVar[str]
    """What it does, in one line."""

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """The method of this name; None if the name is not one of its own. Without a strength, the form is the name."""
        return cls() if name == cls.form else None

    @property
    def name(self) -> str:
        """As candidates carry it: `pruned-30`."""
        return self.form

    def reads(self, config: CompressConfig) -> dict[str, Any]:  # noqa: ARG002 - most methods read nothing
        """The values of the section, as JSON, on which its result depends."""
        return {}


class NetworkMethod(Method):
    """Changes the torch network, and may train what comes out."""

    @abstractmethod
    def shape(self, spec: ModelSpec, network: nn.Module, config: CompressConfig) -> tuple[ModelSpec, nn.Module]:
        """The smaller network before it is trained, and how to build it.

        Args:
            network: the parent's, with its weights, on the CPU, in evaluation mode; it may be changed.

        Raises:
            NotApplicableError: it would change nothing, or cannot be applied to this network.
        """

    @abstractmethod
    def learning(self, config: CompressConfig, train: TrainConfig) -> tuple[TrainConfig, Learning] | None:
        """How the shaped network is trained, without references yet; None if it is not.

        Args:
            train: how the uncompressed model was trained.
        """


@dataclass(frozen=True)
class PercentMethod(NetworkMethod):
    """A method whose strength is a percentage from 1 to 99, which stands for PERCENT in its form."""

    percent: int

    @classmethod
    @override
    def parse(cls, name: str) -> Self | None:
        match = re.fullmatch(re.escape(cls.form).replace("PERCENT", "([1-9][0-9]?)"), name)
        return cls(int(match[1])) if match else None

    @property
    @override
    def name(self) -> str:
        return self.form.replace("PERCENT", str(self.percent))


@dataclass(frozen=True)
class Compressed:
    """A core in new numbers."""

    core: onnx.ModelProto
    notes: Mapping[str, float] = field(default_factory=dict)
    """What the method found out, for the report: see `windlass.variants.variant.Origin.notes`."""


class GraphMethod(Method):
    """Changes the numbers in the exported ONNX core, as the last link of a chain."""

    tolerance: ClassVar[float]
    """Of golden examples, absolute and relative: what another processor may answer otherwise."""

    @abstractmethod
    def apply(self, core: onnx.ModelProto, batches: Sequence[Array], config: CompressConfig) -> Compressed:
        """The core in the new numbers.

        Args:
            core: from `features` to the output.
            batches: float32 [B, ...] features of rows of train, `config.calibration_rows` in all.

        Raises:
            NotApplicableError: it would change nothing, or cannot be applied to this core.
        """
