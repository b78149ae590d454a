"""Random changes of training images.

Each draw is a hash of the seed, the epoch and the example, so it depends on neither the worker nor the batch.

Shapes: B examples, H height, W width, C channels, K draws.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from windlass.training.config import AugmentConfig

_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1, _MIX_2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_DRAWS = 8


def draw(seed: int, epoch: int, index_B: Tensor, count: int) -> Tensor:
    """Uniform numbers in [0, 1), float32 [B, K], by the splitmix64 generator (Steele, Lea and Flood, 2014)."""
    key = torch.tensor([_signed(seed * _GOLDEN), _signed(epoch * _MIX_1)], device=index_B.device)
    state_B1 = _mix(_mix(index_B + key[0]) + key[1])[:, None]
    steps_K = torch.tensor([_signed((k + 1) * _GOLDEN) for k in range(count)], device=index_B.device)
    return (_shift_right(_mix(state_B1 + steps_K), 40)).float() / 2**24


class Augment:
    """Shifts, flips, crops and erases, as the recipe asks.

    A shift of n moves the image by up to n pixels each way; a crop pads it by n black pixels on each side and cuts
    the original size out of that, which also moves it by up to n. Where the image moved away, it is black.
    """

    def __init__(self, config: AugmentConfig, seed: int) -> None:
        self.config, self.seed = config, seed

    def __call__(self, images_BHWC: Tensor, index_B: Tensor, epoch: int) -> Tensor:
        """The changed images.

        Args:
            images_BHWC: uint8 [B, H, W, C].
            index_B: int64 [B], the examples' positions in the train split.
        """
        draws_BK = draw(self.seed, epoch, index_B, _DRAWS)
        moved_BHWC = self._move(images_BHWC, draws_BK)
        return self._erase(moved_BHWC, draws_BK) if self.config.erase else moved_BHWC

    def _move(self, images_BHWC: Tensor, draws_BK: Tensor) -> Tensor:
        reach = self.config.shift + self.config.crop
        _, height, width, _ = images_BHWC.shape
        down_B1, right_B1 = (
            (_offset(draws_BK[:, k], self.config.shift) + _offset(draws_BK[:, k + 2], self.config.crop))[:, None]
            for k in (0, 1)
        )
        rows_BH = torch.arange(height, device=images_BHWC.device) + down_B1
        columns_BW = torch.arange(width, device=images_BHWC.device) + right_B1
        if self.config.flip:
            columns_BW = torch.where(draws_BK[:, 4:5] < 0.5, columns_BW.flip(1), columns_BW)
        padded = functional.pad(images_BHWC, (0, 0, reach, reach, reach, reach))
        batch_B11 = torch.arange(len(images_BHWC), device=images_BHWC.device)[:, None, None]
        return padded[batch_B11, (rows_BH + reach)[:, :, None], (columns_BW + reach)[:, None, :]]

    def _erase(self, images_BHWC: Tensor, draws_BK: Tensor) -> Tensor:
        """Black out a box of the image's own proportions, of up to `erase` of its area."""
        side_B = (draws_BK[:, 5] * self.config.erase).sqrt()
        inside = []
        for length, place_B in ((images_BHWC.shape[1], draws_BK[:, 6]), (images_BHWC.shape[2], draws_BK[:, 7])):
            size_B1 = (side_B * length).floor()[:, None]
            start_B1 = (place_B[:, None] * (length - size_B1 + 1)).floor()
            position_L = torch.arange(length, device=images_BHWC.device)
            inside.append((position_L >= start_B1) & (position_L < start_B1 + size_B1))
        erased_BHW = inside[0][:, :, None] & inside[1][:, None, :]
        return images_BHWC.masked_fill(erased_BHW[..., None], 0)


def _offset(draw_B: Tensor, reach: int) -> Tensor:
    """A whole number in [-reach, reach]."""
    return (draw_B * (2 * reach + 1)).floor().long() - reach


def _mix(state: Tensor) -> Tensor:
    state = (state ^ _shift_right(state, 30)) * _signed(_MIX_1)
    state = (state ^ _shift_right(state, 27)) * _signed(_MIX_2)
    return state ^ _shift_right(state, 31)


def _shift_right(state: Tensor, bits: int) -> Tensor:
    # torch has no unsigned shift for int64: the copies of the sign bit are masked out.
    return (state >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value
