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

from windlass.evaluation.energy import EnergyCounter
from windlass.evaluation.inputs import read_inputs
from windlass.evaluation.timing import Call, time_batches, warm_up
from windlass.variants import open_variant
from windlass.variants.engines import Engine, load_engine

Array = np.ndarray[Any, np.dtype[Any]]
Inputs = dict[str, Array]

_FIRST_ANSWERS_S = 0.2
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
        """Load the variant and answer at every batch size, so that memory is what it stays at.

        The peak that Linux keeps in VmHWM starts again after loading: what it then shows is that of answering.
        """
        variant = open_variant(self.directory)
        threads, workers, device = (self.request[name] for name in ("threads", "workers", "device"))
        self.engine: Engine = load_engine(self.directory, variant, threads, workers=workers, device=device)
        self.sample = read_inputs(Path(self.request["sample"]))
        gc.collect()
        _forget_peak_memory()
        for batch_size in self.request["batch_sizes"]:
            warm_up(self._call(batch_size), _FIRST_ANSWERS_S)
        gc.collect()
        return {"modules": sorted(name for name in sys.modules if "." not in name)}

    def time(self) -> dict[str, Any]:
        """What calls take at each batch size, and the processor time of all of this."""
        calls = {size: self._call(size) for size in self.request["batch_sizes"]}
        counter, start_cpu_s = EnergyCounter(Path(self.request["powercap"])), time.process_time()
        timers = time_batches(calls, counter, self.request["latency_seconds"])
        return {"timings": [timer.result() for timer in timers], "cpu_s": time.process_time() - start_cpu_s}

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

    def _call(self, batch_size: int) -> Call:
        batches = _batches(self.sample, batch_size)

        def call(number: int) -> None:
            self.engine.predict(batches[number % len(batches)])

        return call

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


def _forget_peak_memory() -> None:
    clear_refs = Path("/proc/self/clear_refs")
    if clear_refs.exists():
        clear_refs.write_text("5", encoding="ascii")


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
