"""Distillation: a smaller network of the same family learns from the trained one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from typing_extensions import override

from windlass.compression.errors import NotApplicableError
from windlass.compression.methods._training import edited
from windlass.compression.methods.method import NetworkMethod
from windlass.training.documents import Learning

if TYPE_CHECKING:
    from torch import nn

    from windlass.compression.config import CompressConfig
    from windlass.models.spec import ModelSpec
    from windlass.training.config import TrainConfig

_WIDTHS = {"mlp": ("hidden",), "cnn": ("channels", "hidden")}
_LAYERS = {"mlp": "hidden", "cnn": "channels"}
"""The parameter that holds a width for each hidden layer."""
_SEED = 0
"""Of a student's fresh weights; `train.seed` orders what it learns from."""


@dataclass(frozen=True)
class Distilled(NetworkMethod):
    """A student with PERCENT of the width of each hidden layer, or with PERCENT of the hidden layers.

    It has fresh weights and is trained as the original was, from the labels and from the original's answers: Hinton,
    Vinyals and Dean (2015). Fewer layers are the narrowest ones of the original.
    """

    form: ClassVar[str] = "distilled-PERCENT"
    summary: ClassVar[str] = (
        "a student with PERCENT of each hidden layer's width learns from the model; "
        "distilled-depth-PERCENT has PERCENT of the hidden layers"
    )
    percent: int
    fraction_of: str = "width"

    @classmethod
    @override
    def parse(cls, name: str) -> Self | None:
        match = re.fullmatch(r"distilled-(depth-)?([1-9][0-9]?)", name)
        return cls(int(match[2]), "depth" if match[1] else "width") if match else None

    @property
    @override
    def name(self) -> str:
        return f"distilled-depth-{self.percent}" if self.fraction_of == "depth" else f"distilled-{self.percent}"

    @override
    def reads(self, config: CompressConfig) -> dict[str, Any]:
        return {"widths": list(config.distillation.widths)}

    @override
    def shape(self, spec: ModelSpec, network: nn.Module, config: CompressConfig) -> tuple[ModelSpec, nn.Module]:
        if spec.edits:
            raise NotApplicableError(self.name, "a student is made from a whole network: put distilled first")
        if self.fraction_of == "depth":
            changed = self._fewer_layers(spec)
        else:
            changed = self._narrower(spec, config.distillation.widths)
        student = spec.model_copy(update={"parameters": {**spec.parameters, **changed}})
        student, smaller = edited(self.name, student, _fresh(self.name, student, network), ())
        if _count_parameters(smaller) >= _count_parameters(network):
            raise NotApplicableError(self.name, f"such a student of {spec.architecture} has no fewer parameters")
        return student, smaller.eval()

    @override
    def learning(self, config: CompressConfig, train: TrainConfig) -> tuple[TrainConfig, Learning]:
        asked = config.distillation
        learning = Learning(temperature=asked.temperature, label_weight=asked.label_weight)
        return train.model_copy(update={"epochs": asked.epochs or train.epochs}), learning

    def _narrower(self, spec: ModelSpec, named: tuple[str, ...]) -> dict[str, Any]:
        if spec.module_sha256 is None:
            named = _WIDTHS.get(spec.architecture, ())
        elif not named:
            raise NotApplicableError(
                self.name,
                f"{spec.architecture} does not say which of its parameters are widths; "
                "name them in compress.distillation.widths",
            )
        elif unknown := [name for name in named if name not in spec.parameters]:
            raise NotApplicableError(
                self.name, f"compress.distillation.widths names {unknown[0]!r}, which model.parameters does not set"
            )
        return {name: self._share_of(name, spec.parameters[name]) for name in named}

    def _share_of(self, name: str, widths: Any) -> Any:
        if isinstance(widths, list | tuple):
            return [self._share_of(name, width) for width in widths]
        if not isinstance(widths, int):
            raise NotApplicableError(self.name, f"the parameter {name!r} is {widths!r}, no whole number")
        return max(1, round(widths * self.percent / 100)) if widths else 0

    def _fewer_layers(self, spec: ModelSpec) -> dict[str, Any]:
        if spec.architecture not in _LAYERS:
            raise NotApplicableError(self.name, f"{spec.architecture} has no list of hidden layers")
        name = _LAYERS[spec.architecture]
        widths = list(spec.parameters[name])
        count = max(1, round(len(widths) * self.percent / 100))
        narrowest = sorted(range(len(widths)), key=lambda index: (widths[index], index))[:count]
        return {name: [widths[index] for index in sorted(narrowest)]}


def _fresh(candidate: str, spec: ModelSpec, network: nn.Module) -> nn.Module:
    """A network of `spec` with fresh weights, of the class of `network` if that is the user's own."""
    import torch

    from windlass import models

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        if spec.module_sha256 is None:
            return models.build(spec)
        try:
            made: nn.Module = type(network)(
                input_shape=spec.input_shape, num_outputs=spec.num_outputs, **spec.parameters
            )
        except Exception as error:  # a user's own code can raise anything
            cause = f"{spec.architecture} cannot be built with {spec.parameters}: {type(error).__name__}: {error}"
            raise NotApplicableError(candidate, cause) from error
        return made.eval()


def _count_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
