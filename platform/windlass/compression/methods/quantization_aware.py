"""Quantization-aware training: the network learns to live with the rounding that int8 does afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

from windlass.compression.methods._training import fine_tuning
from windlass.compression.methods.method import NetworkMethod

if TYPE_CHECKING:
    from torch import nn

    from windlass.compression.config import CompressConfig
    from windlass.models.spec import ModelSpec
    from windlass.training.config import TrainConfig
    from windlass.training.documents import Learning


@dataclass(frozen=True)
class QuantizationAware(NetworkMethod):
    """The same network, fine-tuned with rounded weights and activations: Jacob et al. (2018)."""

    form: ClassVar[str] = "qat"
    summary: ClassVar[str] = "fine-tuned with the rounding that int8 does next, so that int8 loses less"

    @override
    def shape(self, spec: ModelSpec, network: nn.Module, config: CompressConfig) -> tuple[ModelSpec, nn.Module]:
        return spec, network

    @override
    def learning(self, config: CompressConfig, train: TrainConfig) -> tuple[TrainConfig, Learning]:
        return fine_tuning(config, train, fake_quantized=True)
