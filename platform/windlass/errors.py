"""The root of every error that a user can meet.

Each package defines its own errors beside the code that raises them, all below `WindlassError`.
An error carries its data as attributes, says what to do next in its message, and knows no HTTP.
Its `exit_code` is what the command line ends with.
"""

from __future__ import annotations

from typing import ClassVar

EXIT_FAILURE = 1
EXIT_BAD_INPUT = 2
EXIT_OVER_BUDGET = 3
EXIT_TEST_OVER_BUDGET = 4
EXIT_INTERRUPTED = 75
"""`EX_TEMPFAIL` of sysexits.h: what was done is saved, the same command goes on from there."""


class WindlassError(Exception):
    """Something went wrong that the reader of the message can act upon."""

    exit_code: ClassVar[int] = EXIT_FAILURE


class InvalidInputError(WindlassError):
    """A recipe, a file or an argument is not what it has to be; nothing was changed."""

    exit_code = EXIT_BAD_INPUT


class CorruptedError(WindlassError):
    """Something that we wrote is no longer what we wrote."""


class InterruptedRunError(WindlassError):
    """The run was asked to stop; its work is saved and the same command continues it."""

    exit_code = EXIT_INTERRUPTED


class MissingExtraError(WindlassError):
    """A role was asked for whose packages are not installed."""

    exit_code = EXIT_BAD_INPUT

    def __init__(self, purpose: str, extra: str) -> None:
        super().__init__(f"{purpose} needs more packages: pip install 'windlass[{extra}]'")
        self.purpose, self.extra = purpose, extra
