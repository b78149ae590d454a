"""Whether a candidate's latency is the same when it is measured again: `python tests/performance/bench_latency.py`.

Makes fp32 and int8 of digits, then measures each several times as a run does, in turn, each time in processes of its
own. Two measurements of a candidate have to agree within 10 % at each batch size, or one of them has to say that the
machine was too noisy. Writes `bench-results/latency.json`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from itertools import combinations
from pathlib import Path
from typing import Any

from results import write_results

from windlass.compression.documents import CANDIDATES_NAME, Candidate, Candidates
from windlass.evaluation.config import EvaluateConfig
from windlass.evaluation.documents import Measurement
from windlass.evaluation.measure import measure
from windlass.storage import Reference, Workspace
from windlass.variants.config import ServeConfig

RECIPE = Path(__file__).parents[2] / "pipelines" / "recipes" / "digits.yaml"
TIMES = 6
TARGET = 0.10
QUANTILES = ("p50_ms", "p95_ms", "p99_ms")


def prepare(workspace: Workspace) -> tuple[Path, tuple[Candidate, ...]]:
    """The prepared data and the candidates."""
    command = [sys.executable, "-m", "windlass_cli", "run", str(RECIPE), "--root", workspace.uri, "--step", "compress"]
    words = ["--set", "compress.candidates=[int8]", "--json"]
    done = subprocess.run([*command, *words], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    steps = json.loads(done.stdout)["run"]["steps"]
    paths = {step["step"]: workspace.fetch(Reference.model_validate(step["reference"])) for step in steps}
    return paths["prepare"], Candidates.read(paths["compress"] / CANDIDATES_NAME).candidates


def measured(candidate: Candidate, workspace: Workspace, bundle: Path) -> Measurement:
    with tempfile.TemporaryDirectory() as output:
        return measure(
            candidate.name,
            variant=workspace.fetch(candidate.variant),
            reference=candidate.variant,
            dataset=bundle,
            output=Path(output),
            task="image-classification",
            config=EvaluateConfig(bootstrap=100),
            serve=ServeConfig(),
        )


def differences(measurements: list[Measurement]) -> list[dict[str, Any]]:
    """Of each pair, batch size and quantile: the larger over the smaller, less one."""
    return [
        {
            "candidate": one.candidate,
            "batch_size": timed.batch_size,
            "quantile": quantile,
            "difference": max(values) / min(values) - 1,
            "noisy": bool(one.noise or two.noise),
        }
        for one, two in combinations(measurements, 2)
        for timed, again in zip(one.latency, two.latency, strict=True)
        for quantile in QUANTILES
        for values in [(getattr(timed, quantile), getattr(again, quantile))]
    ]


def main() -> None:
    with tempfile.TemporaryDirectory() as root:
        workspace = Workspace(root)
        bundle, candidates = prepare(workspace)
        rounds = [[measured(candidate, workspace, bundle) for candidate in candidates] for _ in range(TIMES)]
    found = [entry for measurements in zip(*rounds, strict=True) for entry in differences(list(measurements))]
    print(f"{'candidate':12}{'quantile':>9}{'batch':>6}{'pairs':>6}{'told noisy':>12}{'within 10 %':>13}{'neither':>9}")
    for key in dict.fromkeys((entry["candidate"], entry["quantile"], entry["batch_size"]) for entry in found):
        pairs = [e for e in found if (e["candidate"], e["quantile"], e["batch_size"]) == key]
        noisy = sum(e["noisy"] for e in pairs)
        agree = sum(e["difference"] <= TARGET for e in pairs)
        neither = sum(not e["noisy"] and e["difference"] > TARGET for e in pairs)
        print(f"{key[0]:12}{key[1]:>9}{key[2]:6}{len(pairs):6}{noisy:12}{agree:13}{neither:9}")
    write_results("latency", {"found": found, "target": TARGET})


if __name__ == "__main__":
    main()
