"""Errors that cross the border of a process: as data on one side, raised again on the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from windlass.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, CorruptedError, InvalidInputError, WindlassError
from windlass.training.documents import ErrorReport
from windlass.training.errors import (
    CheckpointSpaceError,
    TrainingDivergedError,
    TrainingFailedError,
    TrainingInterruptedError,
    TrainingMemoryError,
    WorkerKilledError,
    WorkerLostError,
)

_REBUILT: Mapping[str, Callable[[Mapping[str, str]], WindlassError]] = {
    "TrainingDivergedError": lambda data: TrainingDivergedError(int(data["step"]), float(data["norm"])),
    "TrainingFailedError": lambda data: TrainingFailedError(int(data["rank"]), data["cause"], data["traceback"]),
    "TrainingMemoryError": lambda data: TrainingMemoryError(int(data["rank"]), data["cause"]),
    "TrainingInterruptedError": lambda data: TrainingInterruptedError(int(data["step"]) if "step" in data else None),
    "WorkerKilledError": lambda data: WorkerKilledError(int(data["rank"]), data["signal_name"], int(data["restarts"])),
    "WorkerLostError": lambda data: WorkerLostError(int(data["rank"]), data["cause"], int(data["restarts"])),
    "CheckpointSpaceError": lambda data: CheckpointSpaceError(data["directory"]),
    "CorruptedError": lambda data: CorruptedError(data["message"]),
}
"""Others keep their message and their exit code, and lose their class."""


def describe_error(error: WindlassError) -> ErrorReport:
    """An error as data."""
    name = type(error).__name__
    data = {key: str(value) for key, value in vars(error).items() if value is not None} if name in _REBUILT else {}
    if isinstance(error, CorruptedError):
        name, data = "CorruptedError", {"message": str(error)}
    return ErrorReport(name=name, message=str(error), exit_code=error.exit_code, data=data)


def rebuild_error(report: ErrorReport) -> WindlassError:
    """The error that was described."""
    if report.name in _REBUILT:
        return _REBUILT[report.name](report.data)
    if report.exit_code == EXIT_BAD_INPUT:
        return InvalidInputError(report.message)
    if report.exit_code == EXIT_INTERRUPTED:
        return TrainingInterruptedError(None)
    return WindlassError(report.message)
