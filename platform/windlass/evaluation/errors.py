"""What can go wrong while candidates are measured and compared."""

from __future__ import annotations

from windlass.errors import InvalidInputError, WindlassError


class MeasurementError(WindlassError):
    """The process that measures a candidate ended before it had answered."""

    def __init__(self, candidate: str, returncode: int, stderr: str) -> None:
        last = stderr.strip().splitlines()[-1:] or ["it wrote nothing"]
        killed = returncode == -9
        advice = "it was killed, most likely for its memory; give the machine more" if killed else last[0]
        super().__init__(f"measuring {candidate} failed, the process ended with {returncode}: {advice}")
        self.candidate, self.returncode, self.stderr = candidate, returncode, stderr


class UndefinedMetricError(WindlassError):
    """The task's main metric has no value on a split, so nothing can be chosen by it."""

    def __init__(self, metric: str, rows: int) -> None:
        super().__init__(
            f"{metric} is not defined on the {rows} rows of this split: there are too few, or their targets are all "
            "equal; enlarge data.split.validation and data.split.test, or split with another seed"
        )
        self.metric, self.rows = metric, rows


class EmptySplitError(InvalidInputError):
    """There is nothing to measure candidates on."""

    def __init__(self, split: str) -> None:
        super().__init__(f"the split {split} has no rows to measure candidates on; set data.split.{split} above 0")
        self.split = split


class NotFiniteAnswersError(WindlassError):
    """A model answers what is no number, so no metric has a value."""

    def __init__(self, bad: int, rows: int) -> None:
        super().__init__(
            f"the model answers NaN, infinity or no probability at all to {bad} of {rows} rows; leave this candidate "
            "out of compress.candidates, or train with a smaller train.learning_rate if it is the uncompressed one"
        )
        self.bad, self.rows = bad, rows
