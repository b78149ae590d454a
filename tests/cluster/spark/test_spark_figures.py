"""How soon a driver has its executors, and what both take before they have anything to do."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import cluster_installation
from cluster_installation import Installation
from spark_runs import EXECUTORS, pods
from windlass.cluster.launcher import Launcher
from windlass.recipe.model import Recipe
from windlass.recipe.resolve import resolve
from windlass.recipe.spark_job import describe_job

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

MOST_START_S = 40
MOST_DRIVER_BYTES, MOST_EXECUTOR_BYTES = 450 * 10**6, 300 * 10**6
SETTLED_S = 5
RECIPE = {
    "name": "idle",
    "task": "tabular-classification",
    "data": {"source": "sklearn:wine", "engine": "spark"},
    "resources": {"cluster": {"step": {"cpu": 0.1, "memory": "2.6GB"}}},
}


@dataclass
class Idle:
    """A driver and two executors that had nothing to do."""

    start_s: float = 0.0
    """From the driver's container running to both executors registered."""
    driver: dict[str, int] = field(default_factory=dict)
    """Bytes of each process."""
    executors: list[dict[str, int]] = field(default_factory=list)


@pytest.fixture(scope="module")
def idle(installation: Installation) -> Idle:
    from kubernetes import client, config

    config.load_kube_config()
    resolved = resolve(Recipe.model_validate(RECIPE), Path.cwd(), place="cluster")
    described = describe_job(resolved, installation.settings.storage.root, "idle", installation.settings, None)
    program = source_of("idle_driver")
    job = replace(described, command=("python", "-c", program))
    found = Idle()

    def look(line: str) -> None:
        if not line.startswith("registered "):
            return
        (driver,) = pods(installation, f"batch.kubernetes.io/job-name={job.name}")
        found.start_s = float(line.split()[1]) - running_since_s(installation, driver)
        time.sleep(SETTLED_S)
        found.driver = memory(installation, driver)
        found.executors = [memory(installation, executor) for executor in pods(installation, EXECUTORS)]

    launcher = Launcher(client.ApiClient(), kind="job")
    try:
        launcher.run(job, on_log=look, on_state=lambda _: None)
    finally:
        launcher.delete(job.name, job.namespace)
    print(f"\n{found}")
    return found


def source_of(name: str) -> str:
    """A program that a pod runs."""
    return Path(cluster_installation.__file__).with_name(f"{name}.py").read_text(encoding="utf-8")


def running_since_s(installation: Installation, pod: str) -> float:
    (container,) = installation.get("pod", pod)["status"]["containerStatuses"]
    return datetime.fromisoformat(container["state"]["running"]["startedAt"]).timestamp()


def memory(installation: Installation, pod: str) -> dict[str, int]:
    program = source_of("pod_memory")
    found: dict[str, Any] = json.loads(installation.kubectl("exec", pod, "--", "python", "-c", program).stdout)
    return found


def test_two_executors_are_there_soon_after_their_driver_runs(idle: Idle) -> None:
    assert idle.start_s < MOST_START_S


def test_an_idle_driver_is_small(idle: Idle) -> None:
    assert 0 < sum(idle.driver.values()) < MOST_DRIVER_BYTES


def test_idle_executors_are_small(idle: Idle) -> None:
    assert len(idle.executors) == 2
    assert all(0 < sum(executor.values()) < MOST_EXECUTOR_BYTES for executor in idle.executors)
