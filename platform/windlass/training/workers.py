"""The processes that train together: who this one is, and what they do in common."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from datetime import timedelta
from typing import Literal, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from windlass.errors import InvalidInputError
from windlass.training.errors import PeerFailedError

T = TypeVar("T")

_JOIN_TIMEOUT = timedelta(minutes=5)
"""Workers start at different speeds. Checkpoint shards are also written under it: that a worker has died is noticed
at once, only a network that swallows everything is noticed this late."""
_EXCHANGE_TIMEOUT = timedelta(seconds=30)
_TOUCH_S = 1.0


class Workers:
    """This process among all workers, under torchrun. With one worker every exchange is left out.

    An exchange fails on all workers within 30 s of the moment in which one is gone or no longer reached.
    """

    def __init__(
        self, rank: int, count: int, device: torch.device, group: distributed.ProcessGroup | None = None
    ) -> None:
        self.rank, self.count, self.device, self._group = rank, count, device, group

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
            distributed.init_process_group("gloo", timeout=_JOIN_TIMEOUT)
            return cls._joined(torch.device("cpu"))
        if local_count > torch.cuda.device_count():
            raise InvalidInputError(
                f"train.num_workers: {local_count} workers on this machine, but it has {torch.cuda.device_count()} "
                "GPUs; use one worker per GPU"
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
        # Checkpoints exchange their plans on the CPU.
        distributed.init_process_group("cpu:gloo,cuda:nccl", timeout=_JOIN_TIMEOUT, device_id=device)
        return cls._joined(device)

    @classmethod
    def _joined(cls, device: torch.device) -> Workers:
        group = distributed.new_group(timeout=_EXCHANGE_TIMEOUT)
        return cls(distributed.get_rank(), distributed.get_world_size(), device, group)

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
        return DistributedDataParallel(
            network, device_ids=device_ids, process_group=self._group, gradient_as_bucket_view=True
        )

    def sum(self, values: list[float]) -> list[float]:
        """The element-wise sum over all workers, the same on each."""
        if self.count == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total, group=self._group)
        return total.tolist()

    def broadcast(self, tensors: list[Tensor]) -> None:
        """Overwrite with the first worker's."""
        if self.count > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0, group=self._group)

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
        distributed.all_gather(everyone, padded, group=self._group)
        return torch.cat([part[:length] for part, length in zip(everyone, lengths, strict=True)])

    def barrier(self) -> None:
        """Wait until every worker is here."""
        self.sum([0.0])

    def gather_text(self, text: str) -> list[str]:
        """A short text of each worker, in the order of their ranks, the same on each."""
        data = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).to(self.device)
        sizes = [0.0] * self.count
        sizes[self.rank] = len(data)
        lengths = [int(size) for size in self.sum(sizes)]
        rows = self.gather_rows(data, lengths).cpu()
        return [bytes(part.tolist()).decode() for part in torch.split(rows, lengths)]

    def together(self, work: Callable[[], T]) -> T:
        """Do long work, each worker its own, and go on when all are done.

        Meanwhile they stay in touch: a worker that is gone is noticed within 30 s, however long the work takes.

        Raises:
            PeerFailedError: the work of another one failed.
        """
        if self.count == 1:
            return work()
        result: Future[T] = Future()

        def carry_out() -> None:
            try:
                result.set_result(work())
            except BaseException as error:  # noqa: BLE001 - `result.result()` raises it where it belongs
                result.set_exception(error)

        # Not of a pool: when another worker is gone, this process has to end without waiting for the work.
        threading.Thread(target=carry_out, daemon=True).start()
        done, failed = 0.0, 0.0
        while done < self.count and not failed:
            wait([result], timeout=_TOUCH_S)
            ended = result.done()
            done, failed = self.sum([float(ended), float(ended and result.exception() is not None)])
        if failed and not (result.done() and result.exception()):
            raise PeerFailedError
        return result.result()
