"""What a cluster costs: `python tests/performance/bench_cluster.py NAMESPACE`, with the chart installed there.

Runs the digits recipe from nothing on this machine and then on the cluster of KUBECONFIG, whose nodes have the images,
and compares the times from the command to its end. Of the cluster's run it also takes how long a training job's pods
took to run, from the start of the step. The root is a fresh one below the installation's. Writes
`bench-results/cluster.json`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from results import write_results

from windlass.cluster.discovery import connect, find_settings

RECIPE = Path(__file__).parents[2] / "pipelines" / "recipes" / "digits.yaml"
TARGETS = {"run_s": 45.0, "training_job_s": 15.0, "pods_running_s": 20.0}
SMALL = ("--set", "resources.cluster.worker.cpu=0.1", "--set", "resources.cluster.step.cpu=0.1")


def timed(*words: str) -> tuple[float, list[dict[str, Any]]]:
    """Seconds of a whole command, and its events."""
    started_s = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "windlass_cli", "run", str(RECIPE), "--json", *words],
        env={**os.environ, "MLFLOW_TRACKING_URI": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"windlass run {' '.join(words)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return time.perf_counter() - started_s, [json.loads(line) for line in done.stderr.splitlines() if line[:1] == "{"]


def pods_running_s(events: list[dict[str, Any]]) -> float:
    """From the start of the training step to all of its pods running."""
    started = next(e["time"] for e in events if e["kind"] == "step" and e["step"] == "train")
    running = next(e["time"] for e in events if e["kind"] == "message" and "2 of 2 pods run" in e["text"])
    return float(running - started)


def main(namespace: str) -> None:
    api, _ = connect()
    root = f"{find_settings(api, namespace).storage.root}/bench-{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory() as directory:
        laptop_s, _ = timed("--root", directory)
    cluster_s, events = timed("--on", "cluster", "--namespace", namespace, "--root", root, *SMALL)
    found = {"laptop_s": laptop_s, "cluster_s": cluster_s, "pods_running_s": pods_running_s(events)}
    allowed_s = TARGETS["run_s"] + TARGETS["training_job_s"]
    print(f"{'on this machine':32} {laptop_s:8.1f} s")
    print(f"{'on the cluster':32} {cluster_s:8.1f} s")
    print(f"{'more, with one training job':32} {cluster_s - laptop_s:8.1f} s   target at most {allowed_s:.0f} s")
    print(f"{'two training pods run after':32} {found['pods_running_s']:8.1f} s   target at most 20 s")
    write_results("cluster", {"found": found, "targets": TARGETS})


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
