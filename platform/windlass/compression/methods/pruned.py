"""Structured pruning: whole channels and neurons are removed, wherever they lead to."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from windlass.compression.errors import NotApplicableError
from windlass.compression.methods._training import edited, fine_tuning
from windlass.compression.methods.method import PercentMethod

if TYPE_CHECKING:
    from torch import Tensor, nn

    from windlass.compression.config import CompressConfig, PruningConfig
    from windlass.models.spec import ModelSpec
    from windlass.training.config import TrainConfig
    from windlass.training.documents import Learning

FEWEST_CHANNELS = 2
"""What a layer keeps, however little its channels matter."""


@dataclass(frozen=True)
class Pruned(PercentMethod):
    """PERCENT of the hidden channels and neurons removed, those of the smallest norm, then fine-tuned.

    Channels that a skip connection, a concatenation or a normalization ties together count once and go together. The
    norm is over all weights that go with them, relative to its mean over the channels that they are tied to.
    The network's outputs, and grouped convolutions that are not depthwise, keep all channels.
    """

    form: ClassVar[str] = "pruned-PERCENT"
    summary: ClassVar[str] = "PERCENT of all hidden channels and neurons removed, then fine-tuned with the teacher"

    @override
    def reads(self, config: CompressConfig) -> dict[str, Any]:
        return {"pruning": config.pruning.model_dump(mode="json")}

    @override
    def shape(self, spec: ModelSpec, network: nn.Module, config: CompressConfig) -> tuple[ModelSpec, nn.Module]:
        from windlass.models.edits import resized_modules

        if _has_tied_weights(network):
            raise NotApplicableError(self.name, f"layers of {spec.architecture} share a parameter")
        before = copy.deepcopy(network)
        groups = _Groups(network, spec.input_shape, config.pruning)
        removed = choose_channels(groups.scores, groups.kept, self.percent / 100, scope=config.pruning.scope)
        if not any(removed):
            raise NotApplicableError(self.name, f"{spec.architecture} has no hidden channels to spare")
        groups.remove(removed)
        return edited(self.name, spec, network, resized_modules(before, network))

    @override
    def learning(self, config: CompressConfig, train: TrainConfig) -> tuple[TrainConfig, Learning]:
        return fine_tuning(config, train)


def choose_channels(scores: list[Tensor], kept: list[set[int]], share: float, *, scope: str) -> list[list[int]]:
    """For each group of tied channels, those to remove: `share` of all, or of each group, with the smallest scores.

    Args:
        scores: of each group, float [channels].
        kept: channels that stay, so that a group may lose less than its share.
    """
    ranked = [
        [channel for channel in group.argsort().tolist() if channel not in stays]
        for group, stays in zip(scores, kept, strict=True)
    ]
    if scope == "layer":
        return [order[: round(share * len(group))] for order, group in zip(ranked, scores, strict=True)]
    everywhere = sorted(
        (float(scores[index][channel]), index, channel) for index, order in enumerate(ranked) for channel in order
    )
    removed: list[list[int]] = [[] for _ in scores]
    for _, index, channel in everywhere[: round(share * sum(map(len, scores)))]:
        removed[index].append(channel)
    return removed


def _has_tied_weights(network: nn.Module) -> bool:
    own = [parameter for module in network.modules() for parameter in module.parameters(recurse=False)]
    return len(own) != len(set(own))


class _Groups:
    """Groups of tied channels of a network, as torch-pruning finds them: Fang et al. (2023), `DepGraph`."""

    def __init__(self, network: nn.Module, input_shape: tuple[int, ...], config: PruningConfig) -> None:
        import torch
        import torch_pruning

        with warnings.catch_warnings():
            # A parameter of a module of the user's own is cut along its last dimension that is not 1.
            warnings.filterwarnings("ignore", message="Unwrapped parameters detected")
            self.graph = torch_pruning.DependencyGraph().build_dependency(
                network, example_inputs=torch.zeros(2, *input_shape)
            )
        self.groups = list(self._removable())
        self.scores = [self._score(group, 1 if config.importance == "l1" else 2) for group in self.groups]
        self.kept = [self._best_of_each_layer(*pair) for pair in zip(self.groups, self.scores, strict=True)]

    def remove(self, channels: list[list[int]]) -> None:
        """Take these channels out of each group."""
        for group, indices in zip(self.groups, channels, strict=True):
            if indices:
                root = group[0].dep
                self.graph.get_pruning_group(root.target.module, root.handler, indices).prune()

    def _removable(self) -> Iterator[Any]:
        from torch import nn

        for group in self.graph.get_all_groups(root_module_types=[nn.modules.conv._ConvNd, nn.Linear]):
            reaches_output = any(
                not dep.target.outputs for dep, _ in group if self.graph.is_out_channel_pruning_fn(dep.handler)
            )
            if not reaches_output and not any(_is_grouped(dep.target.module) for dep, _ in group):
                yield group

    def _score(self, group: Any, order: int) -> Tensor:
        """Of each channel, the norm of all weights that go with it, relative to their mean: Li et al. (2017).

        The library's own score takes the wrong length where the first layer of a group is depthwise (1.6.1).
        """
        import torch
        from torch import nn

        powers = torch.zeros(len(group[0].idxs))
        for item in group:
            layer = item.dep.target.module
            if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd):
                cuts_outputs = self.graph.is_out_channel_pruning_fn(item.dep.handler) or layer.weight.shape[1] == 1
                axis = 0 if cuts_outputs != getattr(layer, "transposed", False) else 1
                weight = layer.weight.detach().abs().pow(order).transpose(0, axis).flatten(1).sum(dim=1)
                powers.index_add_(0, torch.tensor(item.root_idxs), weight[item.idxs])
        norms = powers.pow(1 / order)
        return norms / norms.mean()

    def _best_of_each_layer(self, group: Any, scores: Tensor) -> set[int]:
        """Of a concatenation each part keeps its fewest channels, however little the whole part matters."""
        best: set[int] = set()
        for item in group:
            if self.graph.is_out_channel_pruning_fn(item.dep.handler):
                best |= set(sorted(set(item.root_idxs), key=lambda channel: -float(scores[channel]))[:FEWEST_CHANNELS])
        return best


def _is_grouped(module: object) -> bool:
    from torch import nn

    return isinstance(module, nn.modules.conv._ConvNd) and module.groups not in (1, module.in_channels)
