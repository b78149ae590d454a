"""A gateway of real processes, without a registry: it serves what its cache holds."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import Any

import httpx
import psutil
import pytest


@pytest.fixture
def gateway(config: Any, cache_writer: Any, start_gateway: Any, free_port: int) -> Any:
    cache_writer.route("digits", {"champion": 2}, cache_writer.publish("digits", 2))
    gateway = start_gateway(config.model_copy(update={"port": free_port, "workers": 2, "receive_deadline_s": 1.0}))
    gateway.wait_ready()
    return gateway


@pytest.mark.slow
def test_a_gateway_serves_from_two_workers_and_stops_with_zero(gateway: Any, start_gateway: Any) -> None:
    reply = gateway.client.post("/v1/models/digits/predict", json={"rows": [[2, 0, 0]]})
    assert reply.json() == {"model": "digits", "version": 2, "predictions": [4.0]}
    gateway.wait_until(
        lambda: 'windlass_loaded_versions{model="digits",version="2"} 2.0' in httpx.get(f"{gateway.url}/metrics").text,
        "the figures of both workers",
    )
    second = start_gateway(gateway.config.model_copy(update={"port": 0}))
    assert second.process.wait(timeout=30) == 2
    assert "another gateway uses the cache" in gateway.log_path.read_text()
    elsewhere = gateway.config.model_copy(update={"cache": gateway.config.cache.with_name("other")})
    third = start_gateway(elsewhere)
    assert third.process.wait(timeout=30) == 2
    assert f"port {gateway.config.port}" in gateway.log_path.read_text()
    assert "--port" in gateway.log_path.read_text()
    assert gateway.stop() == 0


@pytest.mark.slow
def test_without_the_supervisor_no_process_stays(gateway: Any) -> None:
    pids = [*gateway.pids("worker"), *gateway.pids("reconciler")]
    assert len(pids) == 3
    gateway.process.send_signal(signal.SIGKILL)
    gateway.process.wait()
    end_s = time.monotonic() + 20
    while any(_is_there(pid) for pid in pids):
        assert time.monotonic() < end_s
        time.sleep(0.1)


def test_a_worker_imports_neither_mlflow_nor_torch() -> None:
    code = (
        "import sys, windlass_gateway.worker, windlass.variants.engines._onnxruntime;"
        "print(sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "onnxruntime" in loaded
    for heavy in ("mlflow", "torch", "'onnx'", "pandas", "sklearn", "pyarrow", "boto3"):
        assert heavy not in loaded


def _is_there(pid: int) -> bool:
    """Running, and not only waiting for its new parent to read its exit code."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
