"""Whole runs: `python tests/performance/bench_compression.py [RECIPE…]`, or `--only listed` or `auto` for a part of it.

`auto`: runs each recipe in an empty root (default: MNIST and California housing where WINDLASS_DATA names them, and
digits) and compares the chosen version with the trained network in torch, eager and fp32: bytes of the loaded file
against those of the weights, and the time of one call at batch 1 on one thread, rounds alternated.

`listed`: runs MNIST with four listed candidates and with twelve, and compares the most memory that all processes of a
run had at once: summed PSS, sampled. Linux only.

`busy` is the share of a run's wall time in which something was trained, from its first step on, or measured. Writes
`bench-results/compression.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from bench_whole_way import summed_pss
from results import write_results

from windlass.compression.documents import CANDIDATES_NAME, Candidates
from windlass.data.bundle import Bundle
from windlass.data.features import encode_batch, serving_inputs
from windlass.models import load
from windlass.models.spec import WEIGHTS_NAME
from windlass.storage import Reference, Workspace
from windlass.variants import open_variant
from windlass.variants.engines import load_engine

RECIPES = Path(__file__).parents[2] / "pipelines" / "recipes"
TARGETS = {
    "mnist": {"smaller": 10.0, "faster": 4.0, "run_s": 360.0},
    "digits": {"smaller": 6.0},
    "california-housing": {"smaller": 6.0},
    "listed": {"busy": 0.85, "peak_ratio": 1.1},
}
LISTED = (
    *("int8", "int8-percentile", "int8-entropy", "int8-mixed", "int8-dynamic", "fp16"),
    *("pruned-50+int8", "pruned-65+int8", "pruned-80+int8", "pruned-80+qat+int8"),
    *("distilled-50+int8", "distilled-25+int8"),
)
_FEWER = LISTED[::3]
"""Of each kind one: numbers alone, searched numbers, a pruned network and one trained with rounded numbers."""
_ROUNDS, _CALLS = 20, 200
_MEASURING = ("measuring ", "analysing ")
_SAMPLE_INTERVAL_S = 1.0


@dataclass(frozen=True)
class Run:
    """One `windlass run` from nothing."""

    result: Mapping[str, Any]
    seconds: float
    """Of the whole command."""
    busy_s: float
    peak_bytes: int
    """Summed PSS; 0 where it was not sampled."""

    @property
    def busy(self) -> float:
        return self.busy_s / self.seconds

    @property
    def candidates(self) -> int:
        return len(self.result["candidates"])


def run(recipe: Path, root: Path, *, settings: Sequence[str] = (), sampled: bool = False) -> Run:
    """Run a recipe in an empty root."""
    overrides = [argument for setting in settings for argument in ("--set", setting)]
    command = [sys.executable, "-m", "windlass_cli", "run", str(recipe), "--root", str(root), "--json", *overrides]
    started_s, peak_bytes = time.perf_counter(), 0
    with tempfile.TemporaryFile() as events, tempfile.TemporaryFile() as result:
        process = subprocess.Popen(command, stdout=result, stderr=events)
        while sampled and process.poll() is None:
            with suppress(psutil.NoSuchProcess):
                peak_bytes = max(peak_bytes, summed_pss(psutil.Process(process.pid)))
            time.sleep(_SAMPLE_INTERVAL_S)
        process.wait()
        seconds = time.perf_counter() - started_s
        events.seek(0)
        result.seek(0)
        told, printed = events.read().decode(), result.read()
    if process.returncode not in (0, 4):
        raise SystemExit(f"windlass run {recipe} ended with {process.returncode}:\n{told[-2000:]}")
    reported = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    return Run(json.loads(printed), seconds, busy_seconds(reported), peak_bytes)


def busy_seconds(events: Iterable[Mapping[str, Any]]) -> float:
    """Seconds of trainings, from the first step on, and of measurements."""
    began: dict[str, float] = {}
    busy_s = 0.0
    for event in events:
        kind, name = event["kind"], event.get("name", "")
        if (kind == "progress" and name == "train") or (kind == "started" and name.startswith(_MEASURING)):
            began.setdefault(name, event["time"])
        elif kind == "finished" and name in began:
            busy_s += event["time"] - began.pop(name)
    return busy_s


def median_us(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Microseconds of one call, rounds of all alternated."""
    rounds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(_ROUNDS):
        for name, call in calls.items():
            started_s = time.perf_counter()
            for _ in range(_CALLS):
                call()
            rounds[name].append((time.perf_counter() - started_s) / _CALLS * 1e6)
    return {name: statistics.median(taken) for name, taken in rounds.items()}


def compare(result: dict[str, Any], workspace: Workspace) -> dict[str, float]:
    """The chosen version beside the trained network in torch."""
    import torch

    from windlass.training.worker import preprocessing

    torch.set_num_threads(1)
    references = {step["step"]: Reference.model_validate(step["reference"]) for step in result["run"]["steps"]}
    model = workspace.fetch(references["train"])
    listed = Candidates.read(workspace.fetch(references["compress"]) / CANDIDATES_NAME).candidates
    variant = workspace.fetch(next(each.variant for each in listed if each.name == result["winner"]))
    bundle = Bundle.open(workspace.fetch(references["prepare"]))
    batch = next(iter(bundle.batches("validation", 1)))
    _, network = load(model)
    preprocess = preprocessing(bundle.description)
    features = torch.tensor(encode_batch(bundle.description, batch))
    engine, inputs = load_engine(variant, open_variant(variant), threads=1), serving_inputs(bundle.description, batch)
    with torch.no_grad():
        took = median_us({"torch": lambda: network(preprocess(features)), "chosen": lambda: engine.predict(inputs)})
    weights_bytes = (model / WEIGHTS_NAME).stat().st_size
    size_bytes = sum((variant / name).stat().st_size for name in open_variant(variant).files)
    return {
        "weights_bytes": weights_bytes,
        "size_bytes": size_bytes,
        "smaller": weights_bytes / size_bytes,
        "torch_us": took["torch"],
        "chosen_us": took["chosen"],
        "faster": took["torch"] / took["chosen"],
    }


def compare_auto(recipes: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """What `auto` finds for each recipe, against torch."""
    found: dict[str, dict[str, Any]] = {}
    print(f"{'recipe':20}{'chosen':24}{'smaller':>9}{'faster':>8}{'made':>6}{'run':>8}{'busy':>6}")
    for recipe in recipes:
        with tempfile.TemporaryDirectory() as root:
            done = run(recipe, Path(root))
            figures = compare(done.result, Workspace(root))
        winner = done.result["winner"]
        found[recipe.stem] = {
            **figures, "winner": winner, "candidates": done.candidates, "run_s": done.seconds, "busy": done.busy
        }  # fmt: skip
        print(
            f"{recipe.stem:20}{winner:24}{figures['smaller']:8.1f}x{figures['faster']:7.1f}x{done.candidates:6}"
            f"{done.seconds:6.0f} s{done.busy:6.0%}"
        )
    return found


def compare_listed(recipe: Path) -> dict[str, Any]:
    """A run of few listed candidates beside one of many; the uncompressed one comes with both."""
    found: dict[str, Any] = {}
    print(f"{'listed':>8}{'run':>8}{'busy':>6}{'peak':>10}")
    for names in (_FEWER, LISTED):
        with tempfile.TemporaryDirectory() as root:
            done = run(recipe, Path(root), settings=[f"compress.candidates=[{', '.join(names)}]"], sampled=True)
        found[str(len(names))] = {"run_s": done.seconds, "busy": done.busy, "peak_bytes": done.peak_bytes}
        print(f"{len(names):8}{done.seconds:6.0f} s{done.busy:6.0%}{done.peak_bytes / 1e6:7.0f} MB")
    few, many = found[str(len(_FEWER))], found[str(len(LISTED))]
    found |= {"busy": many["busy"], "peak_ratio": many["peak_bytes"] / few["peak_bytes"]}
    print(f"peak of {len(LISTED)} over that of {len(_FEWER)}: {found['peak_ratio']:.2f}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("recipes", nargs="*", type=Path)
    parser.add_argument("--only", choices=("auto", "listed"))
    asked = parser.parse_args()
    names = ["mnist", "california-housing"] if "WINDLASS_DATA" in os.environ else []
    found: dict[str, Any] = {}
    if asked.only != "listed":
        found |= compare_auto(asked.recipes or [RECIPES / f"{name}.yaml" for name in [*names, "digits"]])
    if asked.only != "auto" and "mnist" in names:
        found["listed"] = compare_listed(RECIPES / "mnist.yaml")
    write_results("compression", {"found": found, "targets": TARGETS})


if __name__ == "__main__":
    main()
