"""Faults of a gateway under load: real signals, a real registry, real processes."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from windlass_gateway.config import GatewayConfig

pytestmark = [
    pytest.mark.fault,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]


def _load(package: str, name: str) -> Any:
    path = Path(__file__).parents[1] / package / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


support = _load("windlass_gateway", "conftest")
start_gateway = support.start_gateway


@dataclass
class Seen:
    """What callers saw."""

    statuses: list[int] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    mixed: list[Any] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


@contextmanager
def load(url: str, threads: int = 4) -> Iterator[Seen]:
    """Callers that ask without a pause, on connections that stay open; version N must answer N times the column."""
    seen, over = Seen(), threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=30) as client:
            while not over.is_set():
                try:
                    reply = client.post("/v1/models/digits/predict", json={"rows": [[1, 0, 0], [2, 0, 0], [3, 0, 0]]})
                except httpx.ConnectError:
                    return
                except httpx.TransportError as error:
                    seen.broken.append(repr(error))
                    continue
                seen.statuses.append(reply.status_code)
                if reply.status_code == 200:
                    version = reply.json()["version"]
                    seen.versions.append(version)
                    if reply.json()["predictions"] != [version, 2 * version, 3 * version]:
                        seen.mixed.append(reply.json())

    callers = [threading.Thread(target=ask) for _ in range(threads)]
    for caller in callers:
        caller.start()
    try:
        yield seen
    finally:
        over.set()
        for caller in callers:
            caller.join()


@pytest.fixture(scope="module")
def registry(server: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Versions 1, 2 and 3 of `digits`."""
    registry = support.RealRegistry(tmp_path_factory.mktemp("registry"), server.url)
    for _ in range(3):
        registry.register("digits")
    return registry


@pytest.fixture
def gateway(registry: Any, start_gateway: Callable[[GatewayConfig], Any], tmp_path: Path) -> Any:
    """Two workers; version 1 is the champion."""
    registry.point("digits", "champion", 1)
    gateway = start_gateway(
        GatewayConfig(
            tracking_uri=registry.tracking_uri,
            cache=tmp_path / "cache",
            port=support.find_free_port(),
            workers=2,
            poll_interval_s=0.5,
        )
    )
    gateway.wait_until(lambda: served(gateway) == {"champion": 1}, "version 1 under champion")
    return gateway


def served(gateway: Any) -> Any:
    return gateway.client.get("/readyz").json().get("models", {}).get("digits")


def test_20_an_alias_that_moves_under_load_costs_no_request_and_mixes_no_versions(gateway: Any, registry: Any) -> None:
    with load(gateway.url) as seen:
        for version in (2, 3, 1):
            registry.point("digits", "champion", version)
            done = len(seen.versions)
            gateway.wait_until(
                lambda done=done, version=version: (
                    set(seen.versions[max(done, len(seen.versions) - 20) :]) == {version}
                ),
                f"only version {version} in the last answers",
            )
    assert set(seen.statuses) == {200}
    assert seen.broken == []
    assert seen.mixed == []
    assert set(seen.versions) == {1, 2, 3}


def test_18_a_killed_worker_is_replaced_while_the_others_serve(gateway: Any) -> None:
    victim, other = gateway.pids("worker")
    with load(gateway.url) as seen:
        time.sleep(0.5)
        os.kill(victim, signal.SIGKILL)
        done = len(seen.versions)
        gateway.wait_until(lambda: len(set(gateway.pids("worker")) - {victim}) == 2, "a new worker", timeout_s=15)
        gateway.wait_until(lambda: len(seen.versions) > done + 50, "answers go on", timeout_s=15)
    assert other in gateway.pids("worker")
    assert set(seen.statuses) == {200}
    assert len(seen.broken) <= 4, "only what the killed worker had accepted, one request for each caller"


def test_19_sigterm_under_load_drops_no_accepted_request(gateway: Any) -> None:
    with load(gateway.url) as seen:
        gateway.wait_until(lambda: len(seen.versions) > 50, "load")
        started_s = time.monotonic()
        gateway.process.terminate()
        assert gateway.process.wait(timeout=45) == 0
    assert set(seen.statuses) == {200}
    assert len(seen.broken) <= 1, "only a connection that came in the moment in which the socket was closed"
    assert time.monotonic() - started_s < 45


def test_21_with_the_registry_gone_the_last_good_version_serves_also_after_a_restart(
    gateway: Any, server: Any, start_gateway: Any
) -> None:
    with load(gateway.url, threads=1) as seen:
        server.kill()
        gateway.wait_until(lambda: bool(gateway.client.get("/readyz").json()["problems"]), "the problem is shown")
    assert set(seen.versions) == {1}
    assert set(seen.statuses) == {200}
    assert gateway.stop() == 0
    again = start_gateway(gateway.config)
    again.wait_ready()
    reply = again.client.post("/v1/models/digits/predict", json={"rows": [[5, 0, 0]]})
    assert reply.json() == {"model": "digits", "version": 1, "predictions": [5.0]}
    server.run()
    again.wait_until(lambda: not again.client.get("/readyz").json()["problems"], "the registry is back")
