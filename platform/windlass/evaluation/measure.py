"""Measure one candidate in fresh processes, with the engine, threads and batch sizes of serving."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from windlass.data.description import DatasetDescription, SplitName
from windlass.errors import MissingExtraError
from windlass.evaluation.bootstrap import Bootstrap
from windlass.evaluation.config import EvaluateConfig
from windlass.evaluation.cost import compressed_bytes, graph_cost
from windlass.evaluation.documents import (
    MEASUREMENT_NAME,
    PREDICTIONS_NAME,
    Consumption,
    Cost,
    Energy,
    Latency,
    Measurement,
    Memory,
)
from windlass.evaluation.energy import POWERCAP
from windlass.evaluation.errors import EmptySplitError
from windlass.evaluation.inputs import read_inputs, write_inputs
from windlass.evaluation.machine import machine
from windlass.evaluation.quality import Scored, mistakes
from windlass.evaluation.resamples import write_resamples
from windlass.evaluation.serving_process import ServingProcess, measure_memory
from windlass.evaluation.timing import MIN_ROUNDS
from windlass.progress import Tracker, message, track
from windlass.storage import Reference
from windlass.tasks import Task, get_task
from windlass.variants import open_variant
from windlass.variants.config import ServeConfig
from windlass.variants.engines import check_device

BATCH_SIZES = (1, 8, 32)
NOISY_SPREAD = 0.05
"""Of the median over rounds: beyond it two measurements may well differ by more than 10 %."""
NOISY_SHARE = 0.1
"""Of all cores, taken by others meanwhile."""
_RAPL_ERROR = 0.1
"""Of the counter itself, idle power included (Khan et al., RAPL in Action, 2018)."""
_SAMPLE_ROWS = 64
_CHUNK_BYTES = 16_000_000


def measure(
    candidate: str,
    *,
    variant: Path,
    reference: Reference,
    dataset: Path,
    output: Path,
    task: str,
    config: EvaluateConfig,
    serve: ServeConfig,
    split: SplitName = "validation",
    timed: bool = True,
    preload: tuple[str, ...] = (),
) -> Measurement:
    """Write measurement.json, predictions.npz and resamples.npz of one variant into `output`.

    One candidate at a time is measured on this machine; others wait.

    Args:
        variant: the variant's directory, published as `reference`.
        dataset: directory of the bundle whose `split` is answered.
        timed: whether latencies and what follows from them are measured; a second split says nothing new of them.
        preload: modules that a serving process has loaded beside the model; they count in its memory.

    Raises:
        DeviceUnavailableError: `serve.device` cannot be used on this machine.
        EmptySplitError: the split has no rows.
        MeasurementError: a measuring process died.
        MissingExtraError: a module of `preload` is not installed.
        UndefinedMetricError: the main metric has no value on the split.
    """
    check_device(serve.device)
    _check_installed(preload)
    with (
        track(f"measuring {candidate} on {split}", total=5, unit="stages") as bar,
        tempfile.TemporaryDirectory(prefix="windlass-measure-") as temporary,
    ):
        folder = Path(temporary)
        request, targets = _prepare(folder, variant, dataset, split, config, serve, preload)
        bar.advance()
        # Also while figures are worked out: that keeps cores busy too.
        with _alone_on_this_machine():
            found = _observe(candidate, request, folder, serve.workers, bar, timed=timed)
            np.savez_compressed(output / PREDICTIONS_NAME, predictions=found.predictions, targets=targets)
            measurement = _describe(
                candidate,
                found,
                targets,
                output,
                variant=variant,
                reference=reference,
                sample=read_inputs(folder / "sample.npz"),
                task=get_task(task),
                config=config,
                serve=serve,
            )
            measurement.write(output / MEASUREMENT_NAME)
        bar.advance()
    return measurement


def _check_installed(preload: tuple[str, ...]) -> None:
    for name in preload:
        if importlib.util.find_spec(name.partition(".")[0]) is None:
            raise MissingExtraError("measuring memory as it is when serving", "gateway")


def _describe(
    candidate: str,
    found: _Observed,
    targets: Any,
    output: Path,
    *,
    variant: Path,
    reference: Reference,
    sample: dict[str, Any],
    task: Task,
    config: EvaluateConfig,
    serve: ServeConfig,
) -> Measurement:
    """What was observed as the figures that are published, with intervals, whose resamples are written beside them."""
    bootstrap = Bootstrap(len(targets), config)
    scored = Scored.of(task, found.predictions, targets, bootstrap)
    write_resamples(output, scored.samples)
    files = [variant / name for name in open_variant(variant).files]
    return Measurement(
        candidate=candidate,
        variant=reference,
        rows=len(targets),
        metric=task.metric,
        quality=scored.quality(),
        size_bytes=sum(path.stat().st_size for path in files),
        latency=found.latency,
        memory=found.memory,
        batch_invariant=found.batch_invariant,
        threads=serve.threads,
        workers=serve.workers,
        device=serve.device,
        machine=machine(serve.device),
        mistakes=mistakes(found.predictions, targets, bootstrap),
        cost=_cost(files, sample, found),
        noise=found.noise,
    )


def _cost(files: list[Path], sample: dict[str, Any], found: _Observed) -> Cost:
    (model,) = files
    parameters, nonzero_parameters, macs = graph_cost(model, {name: tensor[:1] for name, tensor in sample.items()})
    return Cost(
        compressed_bytes=compressed_bytes(files),
        parameters=parameters,
        nonzero_parameters=nonzero_parameters,
        macs_per_row=macs,
        per_1000_rows=found.consumption,
    )


@dataclass(frozen=True)
class _Observed:
    """What the serving processes showed."""

    memory: Memory
    latency: tuple[Latency, ...]
    consumption: tuple[Consumption, ...]
    """Energy only where the processor counts it."""
    noise: str | None
    batch_invariant: bool
    predictions: Any
    """Answers to every row of the split, [N, C] or [N]."""


def _observe(candidate: str, request: Path, folder: Path, num_workers: int, bar: Tracker, *, timed: bool) -> _Observed:
    """Start the serving processes for their memory together, then ask the first one alone for the rest."""
    with ExitStack() as stack:
        workers = [stack.enter_context(ServingProcess(candidate, request)) for _ in range(num_workers)]
        memory = measure_memory(workers)
        bar.advance()
        for idle in workers[1:]:
            idle.stop()
        latency, consumption, noise = _time(workers[0]) if timed else ((), (), None)
        bar.advance()
        invariant = workers[0].ask("invariance")["invariant"]
        workers[0].ask("predict")
        predictions = np.load(folder / "answers.npy", allow_pickle=False)
        bar.advance()
    return _Observed(memory, latency, consumption, noise, invariant, predictions)


def _time(worker: ServingProcess) -> tuple[tuple[Latency, ...], tuple[Consumption, ...], str | None]:
    """Latencies and what they took, and what is to be said of others who used the machine meanwhile."""
    start_s, start_busy_s = time.monotonic(), _busy_s()
    answer = worker.ask("time")
    wall_s = time.monotonic() - start_s
    own_s = max(answer["cpu_s"], 1e-6)
    others_s = max(0.0, _busy_s() - start_busy_s - own_s)
    timings = answer["timings"]
    latency = tuple(Latency(**timing["latency"]) for timing in timings)
    error = _RAPL_ERROR + others_s / own_s
    consumption = tuple(
        Consumption(
            batch_size=timing["latency"]["batch_size"],
            cpu_s=timing["cpu_s"],
            energy=None
            if timing["joules"] is None
            else Energy(joules=timing["joules"], method="rapl", relative_error=error),
        )
        for timing in timings
    )
    settled = all(timing["settled"] for timing in timings)
    return latency, consumption, describe_noise(latency, others_s / wall_s, psutil.cpu_count() or 1, settled=settled)


def _busy_s() -> float:
    """Seconds that all cores of this machine have worked so far, also those that a hypervisor took away."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def describe_noise(latency: Sequence[Latency], others_cores: float, cores: int, *, settled: bool) -> str | None:
    """A sentence where two measurements of the same candidate may well differ by more than 10 %, else None.

    Args:
        others_cores: cores that other processes kept busy meanwhile.
        settled: whether the calls of each batch size had become as long as the next ones during warm-up.
    """
    problems = []
    spreads = [(timed.spread, "p50", timed) for timed in latency] + [
        (timed.p95_spread, "p95", timed) for timed in latency
    ]
    worst, quantile, timed = max(spreads, key=lambda item: item[0])
    if worst > NOISY_SPREAD:
        problems.append(
            f"after {timed.rounds} rounds {quantile} at batch {timed.batch_size} is known to {worst:.0%} to either side"
        )
    fewest = min(timed.rounds for timed in latency)
    if fewest < MIN_ROUNDS:
        problems.append(f"only {fewest} rounds fitted into evaluate.latency_seconds, six are needed")
    if others_cores > NOISY_SHARE * cores:
        problems.append(f"other processes kept {others_cores:.1f} of {cores} cores busy")
    if not settled:
        problems.append("calls were still changing when the time for warm-up was over")
    if not problems:
        return None
    return f"The machine was too noisy for its latencies to be trusted within 10 %: {'; '.join(problems)}."


def _prepare(
    folder: Path,
    variant: Path,
    dataset: Path,
    split: SplitName,
    config: EvaluateConfig,
    serve: ServeConfig,
    preload: tuple[str, ...],
) -> tuple[Path, Any]:
    """Write the split's rows as the engine takes them, in files of bounded size, and the request that names them."""
    names, targets = _write_inputs(folder, dataset, split)
    request = folder / "request.json"
    document = {
        "variant": str(variant),
        "sample": str(folder / "sample.npz"),
        "inputs": names,
        "answers": str(folder / "answers.npy"),
        "threads": serve.threads,
        "workers": serve.workers,
        "device": serve.device,
        "batch_sizes": BATCH_SIZES,
        "latency_seconds": config.latency_seconds,
        "powercap": str(POWERCAP),
        "preload": preload,
    }
    request.write_text(json.dumps(document), encoding="utf-8")
    return request, targets


def _write_inputs(folder: Path, dataset: Path, split: SplitName) -> tuple[list[str], Any]:
    from windlass.data.bundle import Bundle
    from windlass.data.features import serving_inputs, targets

    bundle = Bundle.open(dataset)
    description = bundle.description
    if not description.rows[split]:
        raise EmptySplitError(split)
    names: list[str] = []
    found: list[Any] = []
    for batch in bundle.batches(split, chunk_rows(description)):
        inputs = serving_inputs(description, batch)
        if not names:
            write_inputs(folder / "sample.npz", {name: tensor[:_SAMPLE_ROWS] for name, tensor in inputs.items()})
        names.append(str(folder / f"inputs-{len(names):05d}.npz"))
        write_inputs(Path(names[-1]), inputs)
        found.append(targets(description, batch))
    return names, np.concatenate(found)


def chunk_rows(description: DatasetDescription) -> int:
    """Rows that take about 16 MB as a caller sends them."""
    row_bytes = int(np.prod(description.image_shape)) if description.image_shape else 32 * len(description.columns)
    return max(1, _CHUNK_BYTES // row_bytes)


@contextmanager
def _alone_on_this_machine() -> Iterator[None]:
    """Hold the lock that every measurement of this user takes: two at once would time each other."""
    path = Path(tempfile.gettempdir()) / f"windlass-measure-{os.getuid()}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message("another measurement runs on this machine; waiting for it, so that neither disturbs the other")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
