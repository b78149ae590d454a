"""Real variants, a real MLflow server and a proxy that loses replies: what tests of the registry need."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tiny_models import as_model, linear_model, mixed_model, mixed_signature, numbers_signature
from windlass.compression.methods.int4 import quantize_blocks
from windlass.registry import FamilyMember, register
from windlass.registry.config import RegisterConfig
from windlass.registry.documents import Registration
from windlass.storage import Reference
from windlass.variants import GoldenExamples, Origin, Signature, TensorSpec, Variant, golden
from windlass.variants.engines import load_engine

IMAGES = Signature(
    inputs=(TensorSpec(name="image", dtype="uint8", shape=(None, 2, 2, 1)),),
    outputs=(TensorSpec(name="probabilities", dtype="float32", shape=(None, 3)),),
    class_names=("x", "y", "z"),
)
_WEIGHT_FC = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32) / 4
_WIDE_WEIGHT_FC = np.random.default_rng(0).normal(size=(256, 3)).astype(np.float32) / 16


def _images_model() -> onnx.ModelProto:
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["pixels"], ["features"], axis=1),
            helper.make_node("MatMul", ["features", "weight"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "images",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["B", 2, 2, 1])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["B", 3])],
        [numpy_helper.from_array(_WEIGHT_FC, "weight")],
    )
    return as_model(graph)


KINDS = {
    "numbers": (numbers_signature("abcd", "xyz"), linear_model(_WEIGHT_FC)),
    "images": (IMAGES, _images_model()),
    "mixed": (mixed_signature("color"), mixed_model("color", {"red": 1.0, "blue": 2.0}, unseen=0.0)),
    "int4": (
        numbers_signature([f"f{number}" for number in range(256)], "xyz"),
        quantize_blocks(linear_model(_WIDE_WEIGHT_FC)),
    ),
}


def make_variant(directory: Path, kind: str = "numbers") -> Path:
    """A published variant's files, with the winner's measurement.json beside them."""
    signature, model = KINDS[kind]
    directory.mkdir(parents=True)
    onnx.save(model, directory / "model.onnx")
    Variant(
        name="int8",
        task="tabular-classification",
        format="onnx",
        engine="onnxruntime",
        preprocessing="graph",
        signature=signature,
        files=("model.onnx",),
        origin=Origin(model=Reference(uri="steps/train/k", digest="5" * 64), methods=("int8",)),
    ).write(directory / "variant.json")
    GoldenExamples(rows=[], outputs={}, uncompressed={}, tolerance=1e-5).write(directory / "golden.json")
    (directory / "measurement.json").write_text('{"batch_invariant": true}')
    return directory


def make_family(directory: Path, names: Sequence[str], signature: Signature | None = None) -> list[FamilyMember]:
    """Candidates of numbers to classes, each with other weights, golden answers of its own and figures to tell."""
    made = signature or KINDS["numbers"][0]
    rng = np.random.default_rng(1)
    weight_FC = rng.normal(size=(len(made.columns or ()), len(made.class_names or ()))).astype(np.float32)
    members = []
    for number, name in enumerate(names, start=1):
        variant = directory / "variants" / name
        variant.mkdir(parents=True)
        onnx.save(linear_model(weight_FC / number), variant / "model.onnx")
        written = Variant(
            name=name,
            task="tabular-classification",
            format="onnx",
            engine="onnxruntime",
            preprocessing="graph",
            signature=made,
            files=("model.onnx",),
            origin=Origin(model=Reference(uri="steps/train/k", digest="5" * 64), methods=tuple(name.split("+"))),
        )
        written.write(variant / "variant.json")
        engine = load_engine(variant, written, threads=1)
        rows = [[float(index)] * len(weight_FC) for index in range(3)]
        golden.make(engine, rows, uncompressed=engine, tolerance=1e-4).write(variant / "golden.json")
        accuracy, size_bytes, p95_ms = 1 - number / 100, 1000 // number, 0.5 / number
        measurement = {
            "format_version": 1,
            "candidate": name,
            "metric": "accuracy",
            "quality": {"accuracy": {"point": accuracy, "low": accuracy - 0.01, "high": accuracy + 0.01}},
            "size_bytes": size_bytes,
            "latency": [{"batch_size": 1, "p50_ms": p95_ms / 2, "p95_ms": p95_ms, "runs": 90}],
            "memory": {"total_bytes": 80_000_000 + size_bytes, "method": "pss"},
            "batch_invariant": True,
            "machine": "this one",
        }
        (directory / f"{name}.json").write_text(json.dumps(measurement))
        figures = {"accuracy": accuracy, "size_bytes": size_bytes, "latency_p95_batch1_ms": p95_ms, "memory_bytes": 8e7}
        members.append(
            FamilyMember(name, variant, directory / f"{name}.json", figures, "accuracy", number > 1, f"why {name}")
        )
    return members


def register_family(
    tracking_uri: str, directory: Path, names: Sequence[str], winner: str, **changes: Any
) -> Registration:
    """Register a family that is made in `directory`; `changes` as of `register_variant`."""
    family = make_family(directory, names, changes.pop("signature", None))
    return register_variant(tracking_uri, directory / "variants", family=family, winner=winner, **changes)


def register_variant(tracking_uri: str, variant: Path, **changes: Any) -> Registration:
    """Register with everything filled in; `changes` replaces arguments."""
    report = variant.parent / "report"
    report.mkdir(exist_ok=True)
    (report / "report.json").write_text("{}")
    (report / "report.html").write_text("<html></html>")
    arguments: dict[str, Any] = {
        "recipe_name": "digits",
        "run_key": "a" * 64,
        "tracking_uri": tracking_uri,
        "family": [
            FamilyMember("fp32", variant, variant / "measurement.json", {"accuracy": 0.99, "size_bytes": 400.0}),
            FamilyMember("int8", variant, variant / "measurement.json", {"accuracy": 0.98, "size_bytes": 100.0}),
        ],
        "winner": "int8",
        "report": report,
        "verdict": {"winner": "int8"},
        "history": None,
        "tags": {"windlass.dataset": "f" * 64},
        "run_id_tag": "digits-1",
        "gate_open": True,
    }
    return register(changes.pop("config", RegisterConfig()), **{**arguments, **changes})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """A real server in a process group of its own, so that its workers die with it."""

    def __init__(self, arguments: list[str], log: Path, *, environment: dict[str, str] | None = None) -> None:
        self._arguments, self._log = [sys.executable, "-m", *arguments], log
        # MLflow starts uvicorn by its name
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._environment = {**os.environ, "PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true", **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, url: str, timeout_s: float = 90) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._arguments, stdout=log, stderr=log, env=self._environment, start_new_session=True
            )
        deadline = time.monotonic() + timeout_s
        while not _answers(url):
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL to the whole group."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


class MlflowServer(Process):
    """`mlflow server` on SQLite."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        arguments = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        arguments += ["--backend-store-uri", f"sqlite:///{directory / 'server.db'}"]
        arguments += ["--artifacts-destination", str(directory / "artifacts")]
        off = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
        super().__init__(arguments, directory / "server.log", environment=off)

    def run(self) -> None:
        self.start(f"{self.url}/health")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


class ReplyCutter:
    """An HTTP proxy in front of a server: it passes every request on, and cuts the connection instead of replying
    to the first `cuts` requests whose first line holds `path`."""

    def __init__(self, port: int, path: bytes, cuts: int) -> None:
        self._upstream, self._path, self._cuts = port, path, cuts
        self.seen = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._upstream)) as upstream:
            request = _read_request(client)
            upstream.sendall(_with_close(request))
            reply = b""
            while chunk := upstream.recv(65536):
                reply += chunk
            if self._path in request.split(b"\r\n", 1)[0]:
                self.seen += 1
                if self.seen <= self._cuts:
                    return
            client.sendall(reply)


def _read_request(client: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        if not (chunk := client.recv(65536)):
            return data
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    missing = (int(lengths[0]) if lengths else 0) - len(body)
    while missing > 0 and (chunk := client.recv(65536)):
        data, missing = data + chunk, missing - len(chunk)
    return data


def _with_close(request: bytes) -> bytes:
    """One request per connection, so that the end of the reply is the end of the connection."""
    head, separator, body = request.partition(b"\r\n\r\n")
    kept = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
    return b"\r\n".join([*kept, b"Connection: close"]) + separator + body
