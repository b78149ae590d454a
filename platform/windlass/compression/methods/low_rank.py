"""Low rank: a matrix of weights as the product of two that together are smaller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

from windlass.compression.errors import NotApplicableError
from windlass.compression.methods._training import edited, fine_tuning
from windlass.compression.methods.method import PercentMethod

if TYPE_CHECKING:
    from torch import nn

    from windlass.compression.config import CompressConfig
    from windlass.models.spec import ModelSpec
    from windlass.training.config import TrainConfig
    from windlass.training.documents import Learning


@dataclass(frozen=True)
class LowRank(PercentMethod):
    """Linear layers and 1x1 convolutions as two with at most PERCENT of the weights, by SVD, then fine-tuned.

    A layer with I inputs and O outputs becomes one to R numbers and one from there, R being the largest whole number
    with R (I + O) <= PERCENT / 100 * I * O; where that is 0, the layer stays. No matrix of that rank is nearer to the
    layer's own (Eckart and Young, 1936).
    """

    form: ClassVar[str] = "low-rank-PERCENT"
    summary: ClassVar[str] = "linear layers and 1x1 convolutions as two with at most PERCENT of the weights, by SVD"

    @override
    def shape(self, spec: ModelSpec, network: nn.Module, config: CompressConfig) -> tuple[ModelSpec, nn.Module]:
        from windlass.models.edits import factorizable_layers
        from windlass.models.spec import Factorized

        edits = []
        for path, layer in factorizable_layers(network):
            outputs, inputs = layer.weight.shape[:2]
            rank = self.percent * inputs * outputs // (100 * (inputs + outputs))
            if rank:
                factorize_by_svd(network, path, rank)
                edits.append(Factorized(path=path, rank=rank))
        if not edits:
            raise NotApplicableError(self.name, f"{spec.architecture} has no layer that gets smaller by it")
        return edited(self.name, spec, network, tuple(edits))

    @override
    def learning(self, config: CompressConfig, train: TrainConfig) -> tuple[TrainConfig, Learning]:
        return fine_tuning(config, train)


def factorize_by_svd(network: nn.Module, path: str, rank: int) -> None:
    """Replace a layer by two whose product is its best approximation of this rank."""
    import torch

    from windlass.models.edits import factorize

    layer = network.get_submodule(path)
    assert isinstance(layer, torch.nn.Linear | torch.nn.Conv2d)
    first, second = factorize(network, path, rank)
    with torch.no_grad():
        left, scale, right = torch.linalg.svd(layer.weight.flatten(1), full_matrices=False)
        root = scale[:rank].sqrt()
        first.weight.copy_((root[:, None] * right[:rank]).reshape(first.weight.shape))
        second.weight.copy_((left[:, :rank] * root).reshape(second.weight.shape))
        if layer.bias is not None and second.bias is not None:
            second.bias.copy_(layer.bias)
