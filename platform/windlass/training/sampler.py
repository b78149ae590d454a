"""Which examples make up each step, whatever the number of workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Batch(NamedTuple):
    """One worker's part of a global batch."""

    examples: Tensor
    """int64 [B], on the device: positions in the train split; never empty."""
    scale: float
    """Factor of the part's summed loss, so that the mean over the workers is the global batch's mean loss."""


class GlobalBatchSampler:
    """Each epoch passes every example once, in an order keyed by the seed and the epoch.

    A global batch is cut into contiguous parts, one for each worker, sizes differing by one at most. The last
    batch of an epoch is ragged. A worker for which it leaves nothing gets one example of it with scale 0.
    """

    def __init__(
        self, *, num_examples: int, global_batch_size: int, seed: int, rank: int, num_workers: int, device: torch.device
    ) -> None:
        self.num_examples, self.global_batch_size, self.seed = num_examples, global_batch_size, seed
        self.rank, self.num_workers, self.device = rank, num_workers, device

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.num_examples // self.global_batch_size)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """This worker's parts of the epoch's batches, from `first_step` of the epoch on."""
        generator = np.random.Generator(np.random.Philox(key=np.array([self.seed, epoch], dtype=np.uint64)))
        order_N = torch.from_numpy(generator.permutation(self.num_examples)).to(self.device)
        for step in range(first_step, self.steps_per_epoch):
            batch_G = order_N[step * self.global_batch_size : (step + 1) * self.global_batch_size]
            count = len(batch_G)
            start, stop = count * self.rank // self.num_workers, count * (self.rank + 1) // self.num_workers
            if start == stop:
                yield Batch(batch_G[:1], 0.0)
            else:
                yield Batch(batch_G[start:stop], self.num_workers / count)
