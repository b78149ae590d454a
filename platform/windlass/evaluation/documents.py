"""What evaluation and selection write."""

from __future__ import annotations

from typing import Literal

from windlass.schema import Document, Section
from windlass.storage import Reference

EVALUATION_NAME = "evaluation.json"
MEASUREMENT_NAME = "measurement.json"
PREDICTIONS_NAME = "predictions.npz"
VERDICT_NAME = "verdict.json"
REPORT_JSON_NAME = "report.json"
REPORT_HTML_NAME = "report.html"


class Interval(Section):
    """A figure with its bootstrap confidence interval."""

    point: float
    low: float
    high: float


class Latency(Section):
    """Of one call of the engine, in milliseconds."""

    batch_size: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    runs: int


class Memory(Section):
    """Of the serving processes together. `method` is rss where the system has no PSS."""

    total_bytes: int
    interpreter_bytes: int
    """The part that was there before the model was loaded."""
    method: Literal["pss", "rss"]


class Mistakes(Section):
    """Where the answers are wrong: counts by class, or quantiles of the errors."""

    confusion: tuple[tuple[int, ...], ...] | None = None
    """[actual][answered], in the order of the class names; None for numbers and for very many classes."""
    residuals: dict[str, float] | None = None
    """Quantiles of answer minus target, `p5` to `p95`, and the `largest` absolute one; None for classes."""


class Measurement(Document):
    """One candidate, measured on the validation split in a fresh process, as it will be served."""

    format_version: Literal[1] = 1
    candidate: str
    variant: Reference
    rows: int
    metric: str
    """Name of the task's main metric, one of `quality`."""
    quality: dict[str, Interval]
    size_bytes: int
    latency: tuple[Latency, ...]
    memory: Memory
    batch_invariant: bool
    threads: int
    machine: str
    workers: int = 1
    """Serving processes whose memory was summed."""
    mistakes: Mistakes = Mistakes()


class Comparison(Section):
    """A candidate against the uncompressed model, row by row."""

    candidate: str
    drop: Interval
    """Of the main metric: positive is worse."""
    agreement: float | None
    """Share of equal classes; None for numbers."""


class Evaluation(Document):
    format_version: Literal[1] = 1
    uncompressed: str
    measurements: tuple[Measurement, ...]
    comparisons: tuple[Comparison, ...]


class Miss(Section):
    """A limit that a candidate does not keep."""

    limit: str
    allowed: float
    measured: float


class CandidateVerdict(Section):
    candidate: str
    fits: bool
    misses: tuple[Miss, ...]
    reason: str
    """One sentence: why it was chosen, or why not and by how much."""


class TestResult(Section):
    """Figures on the test split, read once, of the winner and the uncompressed model."""

    __test__ = False
    candidate: str
    rows: int
    quality: dict[str, Interval]
    mistakes: Mistakes = Mistakes()


class Verdict(Document):
    """What selection decided; `exit_code` is what the run ends with (0, 3 or 4 of `windlass.errors`)."""

    format_version: Literal[1] = 1
    exit_code: int
    sentence: str
    winner: str | None
    candidates: tuple[CandidateVerdict, ...]
    test: tuple[TestResult, ...]
    test_drop: Interval | None
    test_reads: int
