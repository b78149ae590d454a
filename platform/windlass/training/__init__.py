"""Data-parallel training under torchrun: the trainer, its checkpoints, and how it is launched.

Importing this package is cheap: torch is imported by the workers only.
"""

from __future__ import annotations

from windlass.training.errors import (
    CheckpointSpaceError,
    TrainingDivergedError,
    TrainingFailedError,
    TrainingInterruptedError,
    TrainingMemoryError,
    WorkerKilledError,
    WorkerLostError,
)
from windlass.training.launcher import train

__all__ = [
    "CheckpointSpaceError",
    "TrainingDivergedError",
    "TrainingFailedError",
    "TrainingInterruptedError",
    "TrainingMemoryError",
    "WorkerKilledError",
    "WorkerLostError",
    "train",
]
