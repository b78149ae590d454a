"""What can go wrong while candidates are made."""

from __future__ import annotations

from windlass.errors import InvalidInputError, WindlassError


class ExportError(WindlassError):
    """The trained network has no ONNX form that answers as it does."""

    def __init__(self, architecture: str, cause: str) -> None:
        super().__init__(
            f"the network {architecture} cannot be exported to ONNX: {cause}; "
            "write its forward() with tensor operations only, free of branches and loops that depend on values or on "
            "the batch size"
        )
        self.architecture, self.cause = architecture, cause


class NameCollisionError(WindlassError):
    """A column has the name of the served graph's output."""

    def __init__(self, column: str) -> None:
        super().__init__(f"the column {column!r} has the name of the model's output; rename the column")
        self.column = column


class NotApplicableError(InvalidInputError):
    """A method that a candidate names does nothing for this model."""

    def __init__(self, candidate: str, cause: str) -> None:
        super().__init__(f"the candidate {candidate} cannot be made: {cause}; leave it out of compress.candidates")
        self.candidate, self.cause = candidate, cause
