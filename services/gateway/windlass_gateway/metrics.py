"""Figures in Prometheus' text form, summed over the gateway's processes.

With `PROMETHEUS_MULTIPROC_DIR` set, as the supervisor does, each process writes its own files there and any
worker answers for all of them; without it a process answers for itself.
"""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class WorkerMetrics:
    """What the workers count."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "windlass_requests", "Requests answered", ["method", "route", "status"], registry=self._registry
        )
        self.request_seconds = Histogram(
            "windlass_request_seconds",
            "Time from a request's headers to the end of its answer",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.rows = Counter("windlass_rows", "Rows predicted", ["model", "version"], registry=self._registry)
        self.loaded = Gauge(
            "windlass_loaded_versions",
            "Workers that have the version loaded",
            ["model", "version"],
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self.refused = Counter(
            "windlass_refused_versions",
            "Versions that were damaged or gave other answers than their golden examples",
            ["model", "version"],
            registry=self._registry,
        )

    def render(self) -> bytes:
        """All figures of all processes."""
        if DIRECTORY_VARIABLE not in os.environ:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


class ReconcilerMetrics:
    """What the reconciler counts."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.registry_up = Gauge(
            "windlass_registry_up",
            "Whether the last look at the registry succeeded",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.downloads = Counter(
            "windlass_downloads", "Versions fetched from the registry", ["model", "outcome"], registry=registry
        )
