"""The settings of an installation as the chart writes them down, for tests that need no cluster."""

from __future__ import annotations

from typing import Any

from windlass.cluster.settings import ClusterSettings, SparkSettings, StorageSettings

SPARK = SparkSettings(
    image="localhost/windlass:1-spark",
    driver_service_account="windlass-spark-driver",
    executor_service_account="windlass-spark-executor",
)


def installation_settings(**changes: Any) -> ClusterSettings:
    """Of the release `windlass` in the namespace `team`, without Spark; `changes` are other values of its fields."""
    settings: dict[str, Any] = {
        "release": "windlass",
        "namespace": "team",
        "image": "localhost/windlass:1-cpu",
        "storage": StorageSettings(root="s3://bucket/prefix", endpoint="http://s3:7070", secret="store"),
        "tracking_uri": "http://mlflow:5000",
        "gateway_uri": "http://gateway:8080",
        "pipeline_service_account": "pipeline",
        "training_service_account": "training",
    }
    return ClusterSettings.model_validate(settings | changes)
