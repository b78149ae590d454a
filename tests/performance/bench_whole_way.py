"""The main job from nothing, and again when all is done: `python tests/performance/bench_whole_way.py`.

Runs `windlass try` on the digits recipe in an empty root and samples the PSS of all its processes together; then
`windlass run` on the same root, where every step is published: what that takes beyond the steps' own time is the
pipeline's overhead. Linux only, for PSS. Writes `bench-results/whole_way.json`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from results import write_results

RECIPE = Path(__file__).parents[2] / "pipelines" / "recipes" / "digits.yaml"
WINDLASS = (sys.executable, "-m", "windlass_cli")
TARGETS = {"seconds": 180.0, "peak_bytes": 2 * 2**30, "overhead_s_per_step": 0.5}
CACHED_ROUNDS = 3
_SAMPLE_INTERVAL_S = 0.5


def summed_pss(process: psutil.Process) -> int:
    """Bytes of a process and all below it; pages that several share are counted once."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.Error):
            total += one.memory_full_info().pss
    return total


def first_run(root: Path) -> dict[str, float]:
    started_s = time.perf_counter()
    process = subprocess.Popen(
        [*WINDLASS, "try", str(RECIPE), "--root", str(root)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    peak_bytes = 0
    while process.poll() is None:
        with suppress(psutil.NoSuchProcess):
            peak_bytes = max(peak_bytes, summed_pss(psutil.Process(process.pid)))
        time.sleep(_SAMPLE_INTERVAL_S)
    if process.returncode != 0:
        raise SystemExit(f"windlass try ended with {process.returncode}")
    return {"seconds": time.perf_counter() - started_s, "peak_bytes": peak_bytes}


def cached_run(root: Path) -> float:
    """Seconds a step beyond the work itself."""
    command = [*WINDLASS, "run", str(RECIPE), "--root", str(root), "--json"]
    reply = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    run: dict[str, Any] = json.loads(reply.stdout)["run"]
    took = datetime.fromisoformat(run["finished"]) - datetime.fromisoformat(run["started"])
    return (took.total_seconds() - sum(step["seconds"] for step in run["steps"])) / len(run["steps"])


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "root"
        found = first_run(root)
        found["overhead_s_per_step"] = sorted(cached_run(root) for _ in range(CACHED_ROUNDS))[CACHED_ROUNDS // 2]
    for name, value in found.items():
        print(f"{name:22} {value:16,.2f}   target at most {TARGETS[name]:,.1f}")
    write_results("whole_way", {"found": found, "targets": TARGETS})


if __name__ == "__main__":
    main()
