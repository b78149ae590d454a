"""The processes that train together: who this one is, and what they do in common."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Literal

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from windlass.errors import InvalidInputError

_TIMEOUT = timedelta(minutes=10)


class Workers:
    """This process among all workers, under torchrun. With one worker every exchange is left out."""

    def __init__(self, rank: int, count: int, device: torch.device) -> None:
        self.rank, self.count, self.device = rank, count, device

    @classmethod
    def join(cls, precision: Literal["fp32", "bf16", "fp16"]) -> Workers:
        """Meet the other workers that torchrun started: nccl on CUDA, gloo otherwise.

        Raises:
            InvalidInputError: the precision needs CUDA and there is none, or there are more workers than GPUs.
        """
        local_rank, local_count = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
        if not torch.cuda.is_available():
            if precision != "fp32":
                raise InvalidInputError(f"train.precision: {precision} needs a CUDA GPU and there is none; use fp32")
            distributed.init_process_group("gloo", timeout=_TIMEOUT)
            return cls(distributed.get_rank(), distributed.get_world_size(), torch.device("cpu"))
        if local_count > torch.cuda.device_count():
            raise InvalidInputError(
                f"train.num_workers: {local_count} workers on this machine, but it has {torch.cuda.device_count()} "
                "GPUs; use one worker per GPU"
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
        # Checkpoints exchange their plans on the CPU.
        distributed.init_process_group("cpu:gloo,cuda:nccl", timeout=_TIMEOUT, device_id=device)
        return cls(distributed.get_rank(), distributed.get_world_size(), device)

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network with its gradients averaged over all workers in the backward pass.

        The statistics of batch norm stay each worker's own.
        """
        if self.count == 1:
            return network
        device_ids = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(network, device_ids=device_ids, gradient_as_bucket_view=True)

    def sum(self, values: list[float]) -> list[float]:
        """The element-wise sum over all workers, the same on each."""
        if self.count == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return total.tolist()

    def broadcast(self, tensors: list[Tensor]) -> None:
        """Overwrite with the first worker's."""
        if self.count > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def gather_rows(self, rows: Tensor, lengths: list[int]) -> Tensor:
        """The rows of all workers, one after the other, the same on each.

        Args:
            rows: [lengths[rank], ...] of this worker.
            lengths: rows of each worker.
        """
        if self.count == 1:
            return rows
        padded = rows.new_zeros((max(lengths), *rows.shape[1:]))
        padded[: len(rows)] = rows
        everyone = [torch.empty_like(padded) for _ in lengths]
        distributed.all_gather(everyone, padded)
        return torch.cat([part[:length] for part, length in zip(everyone, lengths, strict=True)])

    def barrier(self) -> None:
        """Wait until every worker is here."""
        self.sum([0.0])
