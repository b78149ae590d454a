"""What can be wrong with a user's data."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from windlass.errors import InvalidInputError


class DataError(InvalidInputError):
    """The data cannot be prepared as they are; nothing was written."""


class SourceNotFoundError(DataError):
    """Nothing lies where the recipe looks for data."""

    def __init__(self, source: str, looked_at: str) -> None:
        super().__init__(f"data.source {source!r}: nothing found at {looked_at}; check the path")
        self.source, self.looked_at = source, looked_at


class UnknownVariableError(DataError):
    """A path names an environment variable that is not set."""

    def __init__(self, source: str, variable: str) -> None:
        super().__init__(f"data.source {source!r}: environment variable {variable} is not set; export it first")
        self.source, self.variable = source, variable


class UnknownSourceKindError(DataError):
    """The files are of no kind that can be read."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(
            f"data.source {source!r}: {reason}; a source is CSV (.csv), Parquet (.parquet), JSON Lines (.jsonl), an "
            "IDX pair, a folder of images by class, or sklearn:NAME"
        )
        self.source, self.reason = source, reason


class WrongModalityError(DataError):
    """Images where the task needs a table, or the other way round."""

    def __init__(self, kind: str, modality: str) -> None:
        needed = "image-classification" if modality == "table" else "tabular-classification or tabular-regression"
        super().__init__(f"the source is {kind}, which the task cannot read as {modality}; use task: {needed}")
        self.kind, self.modality = kind, modality


class ImagesOnSparkError(DataError):
    """Spark was asked to prepare images."""

    def __init__(self) -> None:
        super().__init__("data.engine: spark prepares tables only, and the source is images; take data.engine out")


class MissingColumnError(DataError):
    """The recipe names a column that the file lacks."""

    def __init__(self, key: str, column: str, file: str, columns: Sequence[str]) -> None:
        lowered = {name.lower(): name for name in columns}
        close = [lowered[name] for name in difflib.get_close_matches(column.lower(), lowered, n=3, cutoff=0.6)]
        hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
        shown = ", ".join(columns[:20]) + (", …" if len(columns) > 20 else "")
        super().__init__(f"{key}: {file} has no column {column!r}; {hint}its columns: {shown}")
        self.key, self.column, self.file = key, column, file


class BadFileError(DataError):
    """A file as a whole is not what its name says."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file, self.reason = file, reason


class BadRowError(DataError):
    """A row that does not parse, and how many more there are."""

    def __init__(
        self, *, file: str, line: int | None, column: str | None, reason: str, count: int, action: str
    ) -> None:
        place = (
            file
            + (f", row {line}" if line is not None else "")
            + (f", column {column!r}" if column is not None else "")
        )
        more = f" ({count:,} such rows in all)" if count > 1 else ""
        super().__init__(f"{place}: {reason}{more}; {action}")
        self.file, self.line, self.column, self.reason, self.count = file, line, column, reason, count


class TargetError(DataError):
    """The target column cannot be learned."""

    def __init__(self, column: str, reason: str) -> None:
        super().__init__(f"target {column!r}: {reason}")
        self.column, self.reason = column, reason


class SplitError(DataError):
    """The rows cannot be divided as asked."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"data.split: {reason}")
        self.reason = reason


class DuplicatesAcrossSplitsError(DataError):
    """Equal rows stand in several of the splits that the user gave."""

    def __init__(self, count: int, examples: Sequence[str]) -> None:
        super().__init__(
            f"{count:,} rows stand in more than one split, so what is learned would be tested on itself: "
            f"{'; '.join(examples)}; set data.duplicates to drop (keeps the copy in test, then validation) or allow"
        )
        self.count, self.examples = count, tuple(examples)


class LeakageError(DataError):
    """Columns that each give away the target."""

    def __init__(self, scores: Mapping[str, float], target: str) -> None:
        listed = ", ".join(f"{column!r} (score {score:.4f} of 1)" for column, score in scores.items())
        names = ", ".join(scores)
        super().__init__(
            f"suspected leakage: {listed} alone predicts {target!r} almost perfectly, as a copy of it would; "
            f"leave it out with data.drop: [{names}], or set data.leakage to allow if it is known when predicting"
        )
        self.scores, self.target = dict(scores), target


class UselessSensitiveColumnError(DataError):
    """A column by whose groups rows are to be compared tells no groups apart."""

    def __init__(self, column: str, reason: str) -> None:
        super().__init__(
            f"evaluate.sensitive: {column!r} makes no groups of rows ({reason}); take it out of the list, or name a "
            "column that does"
        )
        self.column, self.reason = column, reason


class NoFeaturesError(DataError):
    """No column is left to learn from."""

    def __init__(self, dropped: Mapping[str, str]) -> None:
        listed = "; ".join(f"{column}: {reason}" for column, reason in dropped.items())
        super().__init__(
            f"no column is left to learn from ({listed}); keep one with data.columns.NAME: number or category"
        )
        self.dropped = dict(dropped)
