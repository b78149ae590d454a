"""How a training run can end without a model. Each message says what to do next."""

from __future__ import annotations

from typing import ClassVar

from windlass.errors import InterruptedRunError, WindlassError


class TrainingDivergedError(WindlassError):
    """The gradient is not finite; no weight was changed by it."""

    def __init__(self, step: int, norm: float) -> None:
        super().__init__(
            f"training diverged: the gradient's norm at step {step} is {norm}; "
            "try a smaller train.learning_rate, train.warmup_steps, or a smaller train.max_grad_norm, "
            "and look for extreme values in the data"
        )
        self.step, self.norm = step, norm


class TrainingInterruptedError(InterruptedRunError):
    """The run was asked to stop and has saved a checkpoint."""

    def __init__(self, step: int | None) -> None:
        saved = "nothing was lost" if step is None else f"saved at step {step}"
        super().__init__(f"training was interrupted, {saved}; run the same command again to continue")
        self.step = step


class TrainingFailedError(WindlassError):
    """A worker ended with an error that is not ours."""

    def __init__(self, rank: int, cause: str, traceback: str) -> None:
        super().__init__(f"worker {rank} failed: {cause}\n{traceback}".rstrip())
        self.rank, self.cause, self.traceback = rank, cause, traceback


class TrainingMemoryError(WindlassError):
    """A worker had no memory left."""

    advice: ClassVar[str] = (
        "use a smaller train.global_batch_size, fewer train.num_workers (each holds the data and the network), "
        "a smaller model, or a machine with more memory"
    )

    def __init__(self, rank: int, cause: str, advice: str | None = None) -> None:
        super().__init__(f"worker {rank} ran out of memory ({cause}); {advice or self.advice}")
        self.rank, self.cause = rank, cause


class WorkerKilledError(WindlassError):
    """A worker was killed again and again."""

    def __init__(self, rank: int, signal_name: str, restarts: int) -> None:
        super().__init__(
            f"worker {rank} was killed by {signal_name}, after {restarts} restarts from the newest checkpoint; "
            f"if nobody killed it, the machine had no memory left: {TrainingMemoryError.advice}; "
            "the checkpoints are kept and the same command continues"
        )
        self.rank, self.signal_name, self.restarts = rank, signal_name, restarts


class CheckpointSpaceError(WindlassError):
    """There is no space left for a checkpoint; the ones before it are kept."""

    def __init__(self, directory: str) -> None:
        super().__init__(
            f"no space left while writing below {directory}; the checkpoints before it are kept: "
            "free some space and run the same command again to continue from the newest"
        )
        self.directory = directory


class PeerFailedError(WindlassError):
    """This worker cannot go on because another one failed, which says why."""

    def __init__(self) -> None:
        super().__init__("another worker failed; its own message says why")


class TrainingTimeoutError(WindlassError):
    """A training job of a cluster took longer than it may."""

    def __init__(self, timeout_s: int, cause: str | None = None) -> None:
        before = f"; before, its pods had to start again: {cause}" if cause else ""
        super().__init__(
            f"training took longer than resources.cluster.training_timeout, {timeout_s} s; raise it, or use more "
            f"train.num_workers; the checkpoints are kept and the same command continues{before}"
        )
        self.timeout_s, self.cause = timeout_s, cause


class WorkerLostError(WindlassError):
    """A worker no longer reached the others and could not go on without them, again and again."""

    def __init__(self, rank: int, cause: str, restarts: int) -> None:
        super().__init__(
            f"worker {rank} lost the others, after {restarts} restarts from the newest checkpoint: {cause}; look at "
            "the nodes and the network between them; the checkpoints are kept and the same command continues"
        )
        self.rank, self.cause, self.restarts = rank, cause, restarts
