"""What evaluation and selection write."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from windlass.schema import Document, Section
from windlass.storage import Reference
from windlass.variants.engines import Device

EVALUATION_NAME = "evaluation.json"
MEASUREMENT_NAME = "measurement.json"
PREDICTIONS_NAME = "predictions.npz"
RESAMPLES_NAME = "resamples.npz"
VERDICT_NAME = "verdict.json"
REPORT_JSON_NAME = "report.json"
REPORT_HTML_NAME = "report.html"


class Interval(Section):
    """A figure with its bootstrap confidence interval."""

    point: float
    low: float
    high: float


class Latency(Section):
    """Of one call of the engine in one serving process, in milliseconds, and the throughput that follows."""

    batch_size: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    runs: int
    """Calls that were timed, over all rounds."""
    rows_per_s: float
    """Rows answered in a second, calls one after another."""
    rounds: int = 1
    """Times that the batch size was measured, in turn with the others."""
    spread: float = 0.0
    """Half the width of the interval of the rounds' median p50, relative to it: 0.03 is 3 % to either side."""
    p95_spread: float = 0.0
    """The same of p95."""
    p99_spread: float = 0.0
    """The same of p99, which is that of a hundred calls a round: it tells of the machine as much as of the model."""


class Memory(Section):
    """Of the serving processes together. `method` is rss where the system has no PSS."""

    total_bytes: int
    """With the model loaded, between two answers."""
    peak_bytes: int
    """The most while answering, at any batch size; `max_memory` bounds this."""
    interpreter_bytes: int
    """The part that was there before the model was loaded."""
    method: Literal["pss", "rss"]


class ClassQuality(Section):
    """One class against the rest. A figure is None where it is undefined, as the recall of a class without rows."""

    rows: int
    """Of this class."""
    answered: int
    """Rows to which this class was the answer."""
    precision: Interval | None
    recall: Interval | None
    f1: Interval | None


class CalibrationBin(Section):
    """Rows whose most probable class has a probability in (low, high]: they should be right as often as that."""

    low: float
    high: float
    rows: int
    confidence: float
    """The mean probability of the answered class."""
    accuracy: float


class ResidualDecile(Section):
    """A tenth of the rows, in the order of their answers: what is wrong among low answers and among high ones."""

    low: float
    high: float
    """Of the answers, in the target's unit."""
    rows: int
    mean: float
    """Of answer minus target, as are the quantiles."""
    p5: float
    p50: float
    p95: float


class Mistakes(Section):
    """Where the answers are wrong: by class, or by how much."""

    confusion: tuple[tuple[int, ...], ...] | None = None
    """[actual][answered], in the order of the class names; None for numbers and for very many classes."""
    residuals: dict[str, float] | None = None
    """Quantiles of answer minus target, `p5` to `p95`, and the `largest` absolute one; None for classes."""
    classes: tuple[ClassQuality, ...] = ()
    """In the order of the class names; empty for numbers and for very many classes."""
    calibration: tuple[CalibrationBin, ...] = ()
    """The bins behind `calibration_error` that hold rows; empty for numbers."""
    deciles: tuple[ResidualDecile, ...] = ()
    """Empty for classes."""


class Energy(Section):
    """Of the processor and its memory, in joules."""

    joules: float
    method: Literal["rapl", "model"]
    """`rapl`: counted by the processor; `model`: its busy time times `evaluate.watts_per_core`."""
    relative_error: float
    """0.5: the truth is expected within half of the figure to either side."""


class Consumption(Section):
    """What 1,000 rows take in one serving process at a batch size."""

    batch_size: int
    cpu_s: float
    """Seconds of processor time, over all threads."""
    energy: Energy | None = None
    """In an `Evaluation` there for every measurement on the CPU, and for none on a GPU, whose energy is not counted; a
    measurement by itself has only what the processor counted."""
    price: float | None = None
    """In the currency of `evaluate.price_per_hour`; None without one."""


class Cost(Section):
    """What a candidate costs beside its latency and its memory."""

    compressed_bytes: int | None = None
    """Of the files that the engine loads, as gzip packs them: what crosses the network."""
    parameters: int | None = None
    """Numbers in the weights of the graph."""
    nonzero_parameters: int | None = None
    macs_per_row: int | None = None
    """Multiplications with an addition in convolutions and matrix products, for one row."""
    per_1000_rows: tuple[Consumption, ...] = ()
    """One for each batch size of `Measurement.latency`."""


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
    device: Device = "cpu"
    """What the engine ran on. On CUDA `memory` is that of the processes on the host, without what the GPU holds."""
    mistakes: Mistakes = Mistakes()
    cost: Cost = Cost()
    noise: str | None = None
    """A sentence where the machine was too noisy for its latencies to be trusted within the wanted spread."""


class ClassFlips(Section):
    """What became of the rows of one class: `right_to_wrong` and `wrong_to_right` are among those that flipped."""

    rows: int
    flipped: int
    """Rows to which the two models give different classes."""
    right_to_wrong: int
    wrong_to_right: int


class Comparison(Section):
    """A candidate against the uncompressed model, row by row."""

    candidate: str
    drop: Interval
    """Of the main metric: positive is worse."""
    agreement: float | None
    """Share of equal classes; None for numbers."""
    differences: dict[str, Interval] = Field(default={})
    """Of every metric that both have, candidate minus uncompressed, in the metric's own unit: positive is more."""
    flips: tuple[ClassFlips, ...] = ()
    """By actual class, in the order of the class names; empty for numbers."""


class Baseline(Section):
    """A trivial model of the same data, fitted on train and measured on the same rows as the candidates."""

    name: Literal["majority", "mean", "linear"]
    quality: dict[str, Interval]
    train_rows: int
    """Rows of train that it was fitted on; a linear model takes a bounded sample."""
    margin: Interval
    """By how much the uncompressed model is better in the main metric, paired by row: positive is better."""


class Evaluation(Document):
    format_version: Literal[1] = 1
    uncompressed: str
    measurements: tuple[Measurement, ...]
    """Priced: `cost` holds what follows from `evaluate.price_per_hour` and `evaluate.watts_per_core`."""
    comparisons: tuple[Comparison, ...]
    confidence: float = 0.95
    """Of every interval."""
    baselines: tuple[Baseline, ...] = ()
    beats_baselines: bool | None = None
    """Whether every `margin` lies wholly above zero; None without baselines."""


class Miss(Section):
    """A limit that a candidate does not keep."""

    limit: str
    """Its key below `budget`: `max_size`, `metrics.log_loss.max`."""
    allowed: float
    measured: float
    """The figure that was compared: with `budget.confidence`, the worse bound of its interval."""


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


class BudgetChange(Section):
    """The cheapest change of the budget that lets a candidate in."""

    candidate: str
    settings: dict[str, str]
    """Key of the recipe to its new value, as `--set` takes it: {"budget.max_size": "62KB"}."""


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
    notes: tuple[str, ...] = ()
    """Sentences to be read before the figures: a trivial model is as good; the machine was too noisy."""
    nearest: tuple[str, ...] = ()
    """Where nobody fits: the candidates, the one that misses by least first."""
    change: BudgetChange | None = None
    """Where nobody fits."""
