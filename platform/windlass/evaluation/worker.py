"""The process in which a candidate is measured: `python -m windlass.evaluation.worker REQUEST.json`.

It imports what a serving process imports, so that its memory is that of one, and no torch. It answers each command on
standard input with one line of JSON on standard output.
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from windlass.evaluation.inputs import read_inputs
from windlass.variants import open_variant
from windlass.variants.engines import Engine, load_engine

Array = np.ndarray[Any, np.dtype[Any]]
Inputs = dict[str, Array]

_WARM_UP_RUNS = 20
_WARM_UP_S = 0.2
_MIN_RUNS = 20
_DISTINCT_BATCHES = 64
_BATCH_SIZES_BESIDE_OUTLIER = (2, 8, 32)


class Worker:
    """One serving process under measurement."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.request = request
        self.directory = Path(request["variant"])
        for name in ("onnxruntime", *request["preload"]):
            importlib.import_module(name)

    def load(self) -> dict[str, Any]:
        """Load the variant and answer at every batch size, so that memory is what it stays at."""
        variant = open_variant(self.directory)
        workers = self.request["workers"]
        self.engine: Engine = load_engine(self.directory, variant, self.request["threads"], workers=workers)
        self.sample = read_inputs(Path(self.request["sample"]))
        for batch_size in self.request["batch_sizes"]:
            batches = _batches(self.sample, batch_size)
            _run_for(self.engine, batches, _WARM_UP_S, _WARM_UP_RUNS)
        gc.collect()
        return {"modules": sorted(name for name in sys.modules if "." not in name)}

    def time(self) -> dict[str, Any]:
        """Milliseconds of one call at each batch size."""
        found = []
        for batch_size in self.request["batch_sizes"]:
            batches = _batches(self.sample, batch_size)
            _run_for(self.engine, batches, _WARM_UP_S, _WARM_UP_RUNS)
            runs_ms = np.array(_run_for(self.engine, batches, self.request["latency_seconds"], _MIN_RUNS)) / 1e6
            p50, p95, p99 = np.quantile(runs_ms, [0.5, 0.95, 0.99]).tolist()
            found.append(
                {
                    "batch_size": batch_size,
                    "p50_ms": p50,
                    "p95_ms": p95,
                    "p99_ms": p99,
                    "runs": len(runs_ms),
                    "rows_per_s": batch_size * 1000 / float(runs_ms.mean()),
                }
            )
        return {"latency": found}

    def predict(self) -> dict[str, Any]:
        """Answer every row of the split, in batches as served; the answers go to a file."""
        batch_size = max(self.request["batch_sizes"])
        answers = []
        for name in self.request["inputs"]:
            inputs = read_inputs(Path(name))
            for start in range(0, _rows(inputs), batch_size):
                batch = {key: tensor[start : start + batch_size] for key, tensor in inputs.items()}
                answers.append(next(iter(self.engine.predict(batch).values())))
        np.save(self.request["answers"], np.concatenate(answers), allow_pickle=False)
        return {}

    def invariance(self) -> dict[str, Any]:
        """Whether each row is answered alone, bit by bit, as among others beside an extreme row."""
        outlier = {name: _outlier(tensor) for name, tensor in self.sample.items()}
        alone = [self._answer(row) for row in _batches(self.sample, 1)]
        for size in _BATCH_SIZES_BESIDE_OUTLIER:
            for start in range(0, len(alone), size - 1):
                rows = slice(start, start + size - 1)
                batch = {name: np.concatenate([outlier[name], t[rows]]) for name, t in self.sample.items()}
                if self._answer(batch)[1:].tobytes() != np.concatenate(alone[rows]).tobytes():
                    return {"invariant": False}
        return {"invariant": True}

    def _answer(self, inputs: Inputs) -> Array:
        return next(iter(self.engine.predict(inputs).values()))


def _rows(inputs: Inputs) -> int:
    return len(next(iter(inputs.values())))


def _batches(sample: Inputs, batch_size: int) -> list[Inputs]:
    """Batches of the sample's rows, repeated where there are too few."""
    rows = _rows(sample)
    return [
        {name: tensor[np.arange(start, start + batch_size) % rows] for name, tensor in sample.items()}
        for start in range(0, rows, batch_size)
    ][:_DISTINCT_BATCHES]


def _run_for(engine: Engine, batches: list[Inputs], seconds: float, min_runs: int) -> list[int]:
    """Nanoseconds of each call, for so long and at least so many."""
    taken_ns: list[int] = []
    end_ns = time.perf_counter_ns() + int(seconds * 1e9)
    while len(taken_ns) < min_runs or time.perf_counter_ns() < end_ns:
        inputs = batches[len(taken_ns) % len(batches)]
        start_ns = time.perf_counter_ns()
        engine.predict(inputs)
        taken_ns.append(time.perf_counter_ns() - start_ns)
    return taken_ns


def _outlier(tensor: Array) -> Array:
    """One row far from all others, of the same type."""
    first = tensor[:1]
    if tensor.dtype.kind == "O":
        return np.array(["\N{REPLACEMENT CHARACTER} never seen"], dtype=object)
    if tensor.dtype == np.uint8:
        return np.where(np.indices(first.shape).sum(axis=0) % 2, 255, 0).astype(np.uint8)
    largest = np.nanmax(np.abs(tensor), initial=1.0)
    return np.full_like(first, largest * 1000)


def main() -> None:
    answers = sys.stdout
    sys.stdout = sys.stderr  # whatever a library prints is not an answer
    worker = Worker(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    commands: dict[str, Callable[[], dict[str, Any]]] = {
        "start": dict,
        "load": worker.load,
        "time": worker.time,
        "predict": worker.predict,
        "invariance": worker.invariance,
    }
    for line in sys.stdin:
        print(json.dumps(commands[line.strip()]()), file=answers, flush=True)


if __name__ == "__main__":
    main()
