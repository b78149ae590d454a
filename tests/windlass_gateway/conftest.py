"""Tiny versions that tell themselves apart: version N of a model answers N times the first column."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from starlette.exceptions import StarletteDeprecationWarning

from windlass.storage import MANIFEST_NAME, Reference, describe_directory
from windlass.variants import (
    GOLDEN_NAME,
    VARIANT_NAME,
    ColumnSpec,
    GoldenExamples,
    Origin,
    Signature,
    TensorSpec,
    Variant,
)
from windlass_gateway.app import create_app
from windlass_gateway.cache import Cache, RoutedModel, RoutedVersion, Routes
from windlass_gateway.config import GatewayConfig
from windlass_gateway.metrics import WorkerMetrics
from windlass_gateway.models import ModelTable

with warnings.catch_warnings():
    # Starlette's client wants the successor of httpx, which its own releases do not depend on yet.
    warnings.simplefilter("ignore", StarletteDeprecationWarning)
    from fastapi.testclient import TestClient

NOWHERE = "http://127.0.0.1:1"
COLUMNS = ("a", "b", "c")


def numbers_model(factor: float) -> onnx.ModelProto:
    """float32 [B, 3] to [B]: factor * a, and an error of the engine where b is not 0."""
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["input", "weight"], ["product"]),
            helper.make_node("Squeeze", ["product", "one"], ["scaled"]),
            helper.make_node("MatMul", ["input", "second"], ["b_column"]),
            helper.make_node("Squeeze", ["b_column", "one"], ["b"]),
            helper.make_node("Cast", ["b"], ["index"], to=TensorProto.INT64),
            helper.make_node("Gather", ["zero", "index"], ["offset"]),
            helper.make_node("Add", ["scaled", "offset"], ["value"]),
        ],
        "numbers",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["B", 3])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["B"])],
        [
            numpy_helper.from_array(np.array([[factor], [0], [0]], dtype=np.float32), "weight"),
            numpy_helper.from_array(np.array([[0], [1], [0]], dtype=np.float32), "second"),
            numpy_helper.from_array(np.array([1], dtype=np.int64), "one"),
            numpy_helper.from_array(np.zeros(1, dtype=np.float32), "zero"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def write_numbers_variant(directory: Path, factor: float, golden_factor: float | None = None) -> Path:
    """Write a variant that answers `factor * a`; its golden examples expect `golden_factor * a`."""
    directory.mkdir(parents=True)
    (directory / "model.onnx").write_bytes(numbers_model(factor).SerializeToString())
    Variant(
        name="fp32",
        task="tabular-regression",
        format="onnx",
        engine="onnxruntime",
        preprocessing="graph",
        signature=Signature(
            inputs=(TensorSpec(name="input", dtype="float32", shape=(None, 3)),),
            outputs=(TensorSpec(name="value", dtype="float32", shape=(None,)),),
            columns=tuple(ColumnSpec(name=name, type="number") for name in COLUMNS),
        ),
        files=("model.onnx",),
        origin=Origin(model=Reference(uri="steps/train/k", digest="0" * 64), methods=()),
        batch_invariant=True,
    ).write(directory / VARIANT_NAME)
    expected = {"value": [2.0 * (factor if golden_factor is None else golden_factor)]}
    golden = GoldenExamples(rows=[[2.0, 0.0, 0.0]], outputs=expected, uncompressed=expected, tolerance=1e-4)
    golden.write(directory / GOLDEN_NAME)
    return directory


class CacheWriter:
    """Publishes versions as a reconciler does."""

    def __init__(self, directory: Path) -> None:
        self.cache = Cache(GatewayConfig(tracking_uri=NOWHERE, cache=directory))

    def publish(self, name: str, version: int, *, golden_factor: float | None = None) -> RoutedVersion:
        directory = self.cache.new_directory() / "version"
        write_numbers_variant(directory, float(version), golden_factor)
        describe_directory(directory).write(directory / MANIFEST_NAME)
        manifest = self.cache.publish(directory, name, version)
        return RoutedVersion(
            version=version, digest=manifest.digest, size_bytes=manifest.size_bytes, fetched_at=time.time()
        )

    def route(self, name: str, aliases: dict[str, int], *versions: RoutedVersion) -> None:
        models = self.cache.read_routes().models | {name: RoutedModel(aliases=aliases, versions=versions)}
        self.cache.write_routes(Routes(models=models))


@pytest.fixture
def cache_writer(tmp_path: Path) -> CacheWriter:
    return CacheWriter(tmp_path / "cache")


@pytest.fixture
def config(tmp_path: Path) -> GatewayConfig:
    return GatewayConfig(tracking_uri=NOWHERE, cache=tmp_path / "cache")


class InProcess:
    """A worker's application without a socket."""

    def __init__(self, config: GatewayConfig) -> None:
        metrics = WorkerMetrics()
        self.table = ModelTable(config, metrics)
        self.app = create_app(config, self.table, metrics)
        self.client = TestClient(self.app, base_url="http://localhost", raise_server_exceptions=False)

    def predict(self, target: str, *rows: Any) -> httpx.Response:
        reply: httpx.Response = self.client.post(f"/v1/models/{target}/predict", json={"rows": list(rows)})
        return reply

    def follow(self) -> None:
        """Take over what was published, without waiting for the worker to look."""
        assert self.client.portal is not None
        self.client.portal.call(self.table.refresh)


@pytest.fixture
def start_worker() -> Iterator[Callable[[GatewayConfig], InProcess]]:
    started: list[InProcess] = []

    def start(config: GatewayConfig) -> InProcess:
        worker = InProcess(config)
        worker.client.__enter__()
        started.append(worker)
        return worker

    yield start
    for worker in started:
        worker.client.__exit__(None, None, None)


@pytest.fixture
def digits(
    config: GatewayConfig, cache_writer: CacheWriter, start_worker: Callable[[GatewayConfig], InProcess]
) -> InProcess:
    """Model `digits`: version 1 with no alias, version 2 as champion, version 3 in the registry only."""
    cache_writer.route(
        "digits",
        {"champion": 2},
        cache_writer.publish("digits", 1),
        cache_writer.publish("digits", 2),
        RoutedVersion(version=3),
    )
    return start_worker(config)


class Gateway:
    """A gateway of real processes."""

    def __init__(self, config: GatewayConfig, log: Path) -> None:
        self.config, self.log_path = config, log
        path = config.cache.parent / f"settings-{config.port}.json"
        path.write_text(config.model_dump_json())
        with log.open("ab") as file:
            self.process = subprocess.Popen([sys.executable, "-m", "windlass_gateway", str(path)], stderr=file)
        self.url = f"http://127.0.0.1:{config.port}"
        self.client = httpx.Client(base_url=self.url, timeout=10)

    def wait_until(self, claim: Callable[[], bool], what: str, timeout_s: float = 40) -> None:
        end_s = time.monotonic() + timeout_s
        while time.monotonic() < end_s:
            try:
                if claim():
                    return
            except httpx.TransportError:
                pass
            assert self.process.poll() is None, self.log_path.read_text()
            time.sleep(0.05)
        raise AssertionError(f"not within {timeout_s} s: {what}\n{self.log_path.read_text()}")

    def wait_ready(self) -> None:
        self.wait_until(lambda: self.client.get("/readyz").status_code == 200, "ready")

    def pids(self, role: str) -> list[int]:
        """The processes of one role, by what the log says was started and is still there."""
        lines = [json.loads(line) for line in self.log_path.read_text().splitlines() if line.startswith("{")]
        started = [line["pid"] for line in lines if line["event"] == "process started" and line["role"] == role]
        return [pid for pid in started if is_running(pid)]

    def stop(self) -> int:
        self.client.close()
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(timeout=60)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def free_port() -> int:
    return find_free_port()


def find_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture
def start_gateway(tmp_path: Path) -> Iterator[Callable[[GatewayConfig], Gateway]]:
    started: list[Gateway] = []

    def start(config: GatewayConfig) -> Gateway:
        gateway = Gateway(config, tmp_path / "gateway.log")
        started.append(gateway)
        return gateway

    yield start
    for gateway in started:
        gateway.stop()


class RealRegistry:
    """MLflow, on a SQLite file or behind a URI; version N of a model answers N times the first column."""

    def __init__(self, directory: Path, tracking_uri: str | None = None) -> None:
        self._directory = directory
        self.tracking_uri = tracking_uri or f"sqlite:///{directory / 'mlflow.db'}"
        self.artifacts = directory
        self._made = 0

    def register(self, name: str, factor: float | None = None) -> int:
        """Register the next version."""
        from windlass.registry import FamilyMember, register
        from windlass.registry.config import RegisterConfig

        self._made += 1
        run = self._directory / f"run-{self._made}"
        version = len(self._numbers(name)) + 1
        variant = write_numbers_variant(run / "variant", version if factor is None else factor)
        (run / "measurement.json").write_text('{"batch_invariant": true}')
        report = run / "report"
        report.mkdir()
        registration = register(
            RegisterConfig(),
            recipe_name=name,
            run_key=f"key-{self._made}",
            tracking_uri=self.tracking_uri,
            family=[FamilyMember("fp32", variant, run / "measurement.json", {"accuracy": 1.0})],
            winner="fp32",
            report=report,
            verdict={},
            history=None,
            tags={},
            run_id_tag=f"run-{self._made}",
            gate_open=False,
        )
        assert registration.version == version
        return registration.version

    def point(self, name: str, alias: str, version: int) -> None:
        from windlass.registry.tracking import connect

        connect(self.tracking_uri).set_registered_model_alias(name, alias, str(version))

    def version_of(self, model: Path) -> int:
        """Which version a stored model.onnx is, 0 if it is none: its weight says so."""
        if "mlartifacts" not in model.parts:
            return 0
        (weight,) = [tensor for tensor in onnx.load(model).graph.initializer if tensor.name == "weight"]
        return int(numpy_helper.to_array(weight)[0, 0])

    def _numbers(self, name: str) -> list[int]:
        from windlass.registry import ModelNotFoundError, Registry

        try:
            return [info.version for info in Registry(self.tracking_uri).versions(name)]
        except ModelNotFoundError:
            return []


@pytest.fixture
def registry(tmp_path: Path, empty_database: Path) -> RealRegistry:
    directory = tmp_path / "registry"
    directory.mkdir()
    shutil.copyfile(empty_database, directory / "mlflow.db")
    return RealRegistry(directory)
