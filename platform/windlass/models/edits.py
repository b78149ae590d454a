"""What compression changes in a built network, as data: applied again before its weights are loaded.

An edit changes modules where they stand, so that the architecture's own code, a user's too, runs on as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeGuard

from torch import Tensor, nn

from windlass.errors import CorruptedError
from windlass.models.spec import Edit, Factorized, Resized

_SIZES = (
    "in_features",
    "out_features",
    "in_channels",
    "out_channels",
    "groups",
    "num_features",
    "num_channels",
    "num_parameters",
    "embedding_dim",
    "normalized_shape",
)
"""Attributes in which torch's own layers keep a size."""


def apply_edits(network: nn.Module, edits: Iterable[Edit]) -> None:
    """Change the network as `edits` say. Weights keep their first channels only: real ones are loaded after this.

    Raises:
        CorruptedError: there is no such module, or it does not have what the edit says of it.
    """
    for edit in edits:
        try:
            module = network.get_submodule(edit.path)
        except AttributeError:
            raise CorruptedError(f"model.json edits {edit.path!r}, which the network does not have") from None
        if isinstance(edit, Factorized):
            factorize(network, edit.path, edit.rank)
        else:
            _resize(module, edit)


def resized_modules(before: nn.Module, after: nn.Module) -> tuple[Resized, ...]:
    """The edits that give `before` the sizes of `after`, which has the same modules."""
    edits = []
    for (path, old), (_, new) in zip(before.named_modules(), after.named_modules(), strict=True):
        sizes = {name: getattr(new, name) for name in _SIZES if getattr(old, name, None) != getattr(new, name, None)}
        known = dict(_own_tensors(old))
        shapes = {name: tuple(t.shape) for name, t in _own_tensors(new) if t.shape != known[name].shape}
        if sizes or shapes:
            edits.append(Resized(path=path, sizes=sizes, shapes=shapes))
    return tuple(edits)


def factorizable_layers(network: nn.Module) -> list[tuple[str, nn.Linear | nn.Conv2d]]:
    """Linear layers, and convolutions that look at one pixel only, with the paths to them."""
    return [(path, module) for path, module in network.named_modules() if path and _is_factorizable(module)]


def _is_factorizable(module: nn.Module) -> TypeGuard[nn.Linear | nn.Conv2d]:
    if isinstance(module, nn.Conv2d):
        return module.kernel_size == (1, 1) and module.groups == 1 and module.padding == (0, 0)
    return type(module) is nn.Linear


def factorize(network: nn.Module, path: str, rank: int) -> tuple[nn.Linear | nn.Conv2d, nn.Linear | nn.Conv2d]:
    """Put two layers without a nonlinearity between them in the place of one; returns them, with fresh weights.

    Raises:
        CorruptedError: the module at `path` is no layer that can be factorized.
    """
    module = network.get_submodule(path)
    if not path or not _is_factorizable(module):
        raise CorruptedError(f"model.json factorizes {path!r}, which is no linear layer and no 1x1 convolution")
    parent, _, name = path.rpartition(".")
    first, second = _pair(module, rank)
    setattr(network.get_submodule(parent), name, nn.Sequential(first, second))
    return first, second


def _pair(layer: nn.Linear | nn.Conv2d, rank: int) -> tuple[nn.Linear | nn.Conv2d, nn.Linear | nn.Conv2d]:
    bias = layer.bias is not None
    if isinstance(layer, nn.Conv2d):
        first = nn.Conv2d(layer.in_channels, rank, 1, stride=layer.stride, bias=False)  # type: ignore[arg-type]
        return first, nn.Conv2d(rank, layer.out_channels, 1, bias=bias)
    return nn.Linear(layer.in_features, rank, bias=False), nn.Linear(rank, layer.out_features, bias=bias)


def _own_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters(recurse=False)
    yield from module.named_buffers(recurse=False)


def _resize(module: nn.Module, edit: Resized) -> None:
    known = dict(_own_tensors(module))
    for name, size in edit.sizes.items():
        if name not in _SIZES or type(getattr(module, name, None)) is not type(size):
            raise CorruptedError(f"model.json sets {name} of {edit.path!r}, which has no such size")
        setattr(module, name, size)
    for name, shape in edit.shapes.items():
        tensor = known.get(name)
        if tensor is None or tensor.dim() != len(shape) or any(a < b for a, b in zip(tensor.shape, shape, strict=True)):
            raise CorruptedError(
                f"model.json gives {name} of {edit.path!r} the shape {list(shape)}, which does not fit"
            )
        cut = tensor.detach()[tuple(slice(length) for length in shape)].clone()
        setattr(module, name, nn.Parameter(cut) if isinstance(tensor, nn.Parameter) else cut)
