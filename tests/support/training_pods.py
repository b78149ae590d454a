"""The pods of a training job as processes of this machine: each with a disk of its own, all with one object store."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
from botocore.config import Config

from windlass.models.spec import ModelSpec
from windlass.storage import Workspace
from windlass.training.config import TrainConfig
from windlass.training.documents import Learning, PodEnding, PodTrainRequest, Training, ending_name, request_name
from windlass.training.worker import PROCESS_NAME

KEY = "0123456789abcdef0123456789abcdef"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def s3_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A new bucket on a server of its own; the environment says how to reach it. `<root>/name` is a root, too."""
    port, folder = free_port(), tmp_path_factory.mktemp("s3")
    own = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    given = os.environ.get("WINDLASS_TEST_S3_SERVER")
    command = [*shlex.split(given), str(port), str(folder)] if given else own
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("AWS_", "WINDLASS_S3"))]:
            patch.delenv(name)
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret-key")
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        try:
            yield f"s3://{_bucket(port)}"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _bucket(port: int) -> str:
    deadline_s = time.monotonic() + 120
    while time.monotonic() < deadline_s:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            break
        time.sleep(0.1)
    name = f"windlass-{uuid.uuid4().hex[:12]}"
    s3_client().create_bucket(Bucket=name)
    return name


def s3_client() -> Any:
    path_style = Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required")
    return boto3.session.Session().client("s3", config=path_style)


class PodRuns:
    """A training in pods; `start` is what the operator does, again after a failure."""

    def __init__(self, root: str, directory: Path, config: TrainConfig, count: int = 2) -> None:
        self.workspace = Workspace(root, directory / "step")
        self.directory, self.config, self.count = directory, config, count
        self.processes: list[subprocess.Popen[str]] = []
        self.checkpoint_directory: Path | None = None

    def request(
        self,
        task: str,
        spec: ModelSpec,
        dataset: Path,
        module: Path | None = None,
        learning: Learning | None = None,
    ) -> None:
        training = Training(
            config=self.config,
            task=task,
            spec=spec,
            dataset=self.workspace.publish("steps/prepare/data", dataset),
            module=self.workspace.put_input(module) if module else None,
            key=KEY,
            learning=learning or Learning(),
        )
        request = PodTrainRequest(
            training=training,
            workers_per_pod=1,
            threads=1,
            checkpoint_directory=self.checkpoint_directory,
        )
        self.workspace.write_document(request_name(KEY), request.model_dump_json().encode())

    def start(self) -> None:
        master = {"PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": str(free_port()), "PET_NNODES": str(self.count)}
        common = {**os.environ, **master, "GLOO_SOCKET_IFNAME": "lo"}
        self.processes = [self._start(number, common) for number in range(self.count)]

    def _start(self, number: int, environment: dict[str, str]) -> subprocess.Popen[str]:
        local = self.directory / f"pod-{number}"
        command = [sys.executable, "-m", "windlass.training.pod", "--root", self.workspace.uri, "--key", KEY]
        command += ["--local", str(local), "--termination", str(self.termination(number))]
        with self.log(number).open("a") as log:
            return subprocess.Popen(
                command, env={**environment, "PET_NODE_RANK": str(number)}, stdout=log, stderr=log, text=True
            )

    def wait(self, seconds: float = 240) -> list[int]:
        """The exit codes."""
        deadline_s = time.monotonic() + seconds
        return [process.wait(max(0.1, deadline_s - time.monotonic())) for process in self.processes]

    def workers(self, number: int) -> list[psutil.Process]:
        children = psutil.Process(self.processes[number].pid).children(recursive=True)
        return [child for child in children if _is_worker(child)]

    def log(self, number: int) -> Path:
        return self.directory / f"pod-{number}.log"

    def termination(self, number: int) -> Path:
        return self.directory / f"termination-{number}"

    def ending(self, number: int) -> PodEnding:
        return PodEnding.model_validate_json(self.termination(number).read_bytes())

    def model(self) -> Path:
        reference = self.workspace.find("train", KEY)
        assert reference is not None, self.log(0).read_text()
        return self.workspace.fetch(reference)

    def checkpoints(self) -> list[int]:
        names = self.workspace.list_documents(f"work/train/{KEY}/")
        return [int(name.split("/step-")[1][:6]) for name in names if name.endswith("/checkpoint.json")]

    def forgive(self) -> None:
        """What a launcher does before it starts a job anew."""
        self.workspace.delete_document(ending_name(KEY))

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                for child in psutil.Process(process.pid).children(recursive=True):
                    with suppress(psutil.NoSuchProcess):
                        child.kill()
                process.kill()
                process.wait()


def _is_worker(process: psutil.Process) -> bool:
    try:
        return process.name() == PROCESS_NAME
    except psutil.NoSuchProcess:
        return False
