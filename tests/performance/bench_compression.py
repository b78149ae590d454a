"""What `auto` finds, against torch: `python tests/performance/bench_compression.py [RECIPE…]`.

Runs each recipe in an empty root (default: MNIST and California housing where WINDLASS_DATA names them, and digits) and
compares the chosen version with the trained network in torch, eager and fp32: bytes of the loaded file against
those of the weights, and the time of one call at batch 1 on one thread, rounds alternated. `busy` is the share of the
run's wall time in which something was trained or measured. Writes `bench-results/compression.json`.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
}
_ROUNDS, _CALLS = 20, 200
_BUSY = ("train", "measuring ", "analysing ")


def run(recipe: Path, root: Path) -> tuple[dict[str, Any], float, float]:
    """A recipe's result, the seconds of the whole command, and those in which it trained or measured."""
    command = [sys.executable, "-m", "windlass_cli", "run", str(recipe), "--root", str(root), "--json"]
    started_s = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    run_s = time.perf_counter() - started_s
    if done.returncode not in (0, 4):
        raise SystemExit(f"windlass run {recipe} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    began: dict[str, float] = {}
    busy_s = 0.0
    for event in events:
        if event.get("name", "").startswith(_BUSY):
            if event["kind"] == "started":
                began[event["name"]] = event["time"]
            elif event["kind"] == "finished":
                busy_s += event["time"] - began.pop(event["name"])
    return json.loads(done.stdout), run_s, busy_s


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


def main(recipes: list[Path]) -> None:
    found: dict[str, dict[str, Any]] = {}
    print(f"{'recipe':20}{'chosen':24}{'smaller':>9}{'faster':>8}{'made':>6}{'run':>8}{'busy':>6}")
    for recipe in recipes:
        with tempfile.TemporaryDirectory() as root:
            result, run_s, busy_s = run(recipe, Path(root))
            figures = compare(result, Workspace(root))
        made = len(result["candidates"])
        found[recipe.stem] = {
            **figures, "winner": result["winner"], "candidates": made, "run_s": run_s, "busy": busy_s / run_s
        }  # fmt: skip
        print(
            f"{recipe.stem:20}{result['winner']:24}{figures['smaller']:8.1f}x{figures['faster']:7.1f}x{made:6}"
            f"{run_s:6.0f} s{busy_s / run_s:6.0%}"
        )
    folder = Path("bench-results")
    folder.mkdir(exist_ok=True)
    text = json.dumps({"found": found, "targets": TARGETS}, indent=2)
    (folder / "compression.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    names = ["mnist", "california-housing"] if "WINDLASS_DATA" in os.environ else []
    main([Path(name) for name in sys.argv[1:]] or [RECIPES / f"{name}.yaml" for name in [*names, "digits"]])
