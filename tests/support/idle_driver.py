"""A pod that starts Spark with two executors, says when they have registered, and then does nothing for a while."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

from windlass.cluster.settings import ClusterSettings
from windlass.data.spark.kubernetes import ExecutorPods, SparkCluster
from windlass.data.spark.place import cluster_engine

IDLE_S = 45


def main() -> None:
    settings = ClusterSettings.from_environment()
    assert settings is not None
    cluster = SparkCluster(settings, ExecutorPods(count=2, memory_bytes=15 * 10**8, cpu=0.1), "s3://unused/unused")
    with TemporaryDirectory() as directory, cluster_engine(cluster, Path(directory), memory_limit_bytes=2 * 10**9):
        print(f"registered {time.time()}", flush=True)
        time.sleep(IDLE_S)


if __name__ == "__main__":
    main()
