"""Measure one candidate in fresh processes, with the engine, threads and batch sizes of serving."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from windlass.data.description import DatasetDescription, SplitName
from windlass.errors import MissingExtraError
from windlass.evaluation.config import EvaluateConfig
from windlass.evaluation.documents import MEASUREMENT_NAME, PREDICTIONS_NAME, Latency, Measurement, Memory
from windlass.evaluation.errors import EmptySplitError, MeasurementError
from windlass.evaluation.inputs import write_inputs
from windlass.evaluation.quality import mistakes, quality_with_intervals
from windlass.progress import Tracker, message, track
from windlass.storage import Reference
from windlass.tasks import get_task
from windlass.variants import open_variant
from windlass.variants.config import ServeConfig

BATCH_SIZES = (1, 8, 32)
_SAMPLE_ROWS = 64
_CHUNK_BYTES = 16_000_000


def machine() -> str:
    """What the figures of latency and memory hold for: the processor and how many cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_processor()}, {cores} cores, {platform.system()}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


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
    preload: tuple[str, ...] = (),
) -> Measurement:
    """Write measurement.json and predictions.npz of one variant into `output`.

    One candidate at a time is measured on this machine; others wait.

    Args:
        variant: the variant's directory, published as `reference`.
        dataset: directory of the bundle whose `split` is answered.
        preload: modules that a serving process has loaded beside the model; they count in its memory.

    Raises:
        EmptySplitError: the split has no rows.
        MeasurementError: a measuring process died.
        MissingExtraError: a module of `preload` is not installed.
        UndefinedMetricError: the main metric has no value on the split.
    """
    for name in preload:
        if importlib.util.find_spec(name.partition(".")[0]) is None:
            raise MissingExtraError("measuring memory as it is when serving", "gateway")
    with (
        track(f"measuring {candidate} on {split}", total=5, unit="stages") as bar,
        tempfile.TemporaryDirectory(prefix="windlass-measure-") as temporary,
    ):
        folder = Path(temporary)
        request, targets = _prepare(folder, variant, dataset, split, config, serve, preload)
        bar.advance()
        with _alone_on_this_machine():
            found = _observe(candidate, request, folder, serve.workers, bar)
            np.savez_compressed(output / PREDICTIONS_NAME, predictions=found.predictions, targets=targets)
            measurement = Measurement(
                candidate=candidate,
                variant=reference,
                rows=len(targets),
                metric=get_task(task).metric,
                quality=quality_with_intervals(get_task(task), found.predictions, targets, config),
                size_bytes=sum((variant / name).stat().st_size for name in open_variant(variant).files),
                latency=found.latency,
                memory=found.memory,
                batch_invariant=found.batch_invariant,
                threads=serve.threads,
                workers=serve.workers,
                machine=machine(),
                mistakes=mistakes(found.predictions, targets),
            )
            measurement.write(output / MEASUREMENT_NAME)
        bar.advance()
    return measurement


@dataclass(frozen=True)
class _Observed:
    """What the serving processes showed."""

    memory: Memory
    latency: tuple[Latency, ...]
    batch_invariant: bool
    predictions: Any
    """Answers to every row of the split, [N, C] or [N]."""


def _observe(candidate: str, request: Path, folder: Path, num_workers: int, bar: Tracker) -> _Observed:
    """Start the serving processes for their memory together, then ask the first one alone for the rest."""
    with ExitStack() as stack:
        workers = [stack.enter_context(_Process(candidate, request)) for _ in range(num_workers)]
        memory = _measure_memory(workers)
        bar.advance()
        for idle in workers[1:]:
            idle.stop()
        latency = workers[0].ask("time")["latency"]
        bar.advance()
        invariant = workers[0].ask("invariance")["invariant"]
        workers[0].ask("predict")
        predictions = np.load(folder / "answers.npy", allow_pickle=False)
        bar.advance()
    return _Observed(memory, tuple(Latency(**figures) for figures in latency), invariant, predictions)


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
        "batch_sizes": BATCH_SIZES,
        "latency_seconds": config.latency_seconds,
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
    for batch in bundle.batches(split, _chunk_rows(description)):
        inputs = serving_inputs(description, batch)
        if not names:
            write_inputs(folder / "sample.npz", {name: tensor[:_SAMPLE_ROWS] for name, tensor in inputs.items()})
        names.append(str(folder / f"inputs-{len(names):05d}.npz"))
        write_inputs(Path(names[-1]), inputs)
        found.append(targets(description, batch))
    return names, np.concatenate(found)


def _chunk_rows(description: DatasetDescription) -> int:
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


class _Process:
    """A measuring process that answers one command at a time."""

    def __init__(self, candidate: str, request: Path) -> None:
        self._candidate = candidate
        self._stderr = (request.parent / f"stderr-{os.urandom(4).hex()}").open("w+b")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "windlass.evaluation.worker", str(request)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, command: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(f"{command}\n".encode())
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            returncode = self._process.wait()
            self._stderr.seek(0)
            raise MeasurementError(self._candidate, returncode, self._stderr.read().decode(errors="replace"))
        reply: dict[str, Any] = json.loads(line)
        return reply

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._stderr):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _measure_memory(workers: Sequence[_Process]) -> Memory:
    """Of all serving processes together, before and after the model: shared pages count once among them."""
    for worker in workers:
        worker.ask("start")
    interpreter_bytes, _ = _memory_of(workers)
    for worker in workers:
        worker.ask("load")
    total_bytes, method = _memory_of(workers)
    return Memory(total_bytes=total_bytes, peak_bytes=total_bytes, interpreter_bytes=interpreter_bytes, method=method)


def _memory_of(workers: Sequence[_Process]) -> tuple[int, Literal["pss", "rss"]]:
    """The sum over the processes: PSS from Linux, RSS elsewhere, which counts shared pages in each of them."""
    rollups = [Path(f"/proc/{worker.pid}/smaps_rollup") for worker in workers]
    if all(rollup.is_file() for rollup in rollups):
        return sum(_pss_bytes(rollup) for rollup in rollups), "pss"
    import psutil

    return sum(psutil.Process(worker.pid).memory_info().rss for worker in workers), "rss"


def _pss_bytes(rollup: Path) -> int:
    for line in rollup.read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"{rollup} has no line Pss")
