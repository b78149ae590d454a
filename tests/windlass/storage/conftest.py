"""An S3 server as a process of its own.

By default the server is moto's. `WINDLASS_TEST_S3_SERVER` names a command that is called as `COMMAND PORT FOLDER` and
runs another server in the foreground, which keeps its data in the folder when it is killed.
"""

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
import pytest
from botocore.config import Config

from faulty_proxy import Proxy, free_port
from windlass.storage import S3Settings, Workspace

COMMAND_VARIABLE = "WINDLASS_TEST_S3_SERVER"
_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test-secret-key",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class S3Server:
    """A server process that can be killed and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        command = os.environ.get(COMMAND_VARIABLE)
        self.keeps_data = command is not None
        if command:
            self._command = [*shlex.split(command), str(self.port), str(folder)]
        else:
            self._command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(self._command, stdout=quiet, stderr=quiet, start_new_session=True)
        until_s = time.monotonic() + 60
        while time.monotonic() < until_s:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            assert self._process.poll() is None, f"{self._command} ended"
            time.sleep(0.05)
        raise TimeoutError(f"{self._command} does not listen")

    def kill(self) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def client(self) -> Any:
        path_style = Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required")
        return boto3.session.Session().client("s3", endpoint_url=self.endpoint, config=path_style)

    def new_bucket(self) -> str:
        name = f"windlass-{uuid.uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=name)
        return name


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "WINDLASS_S3"))]:
        monkeypatch.delenv(name)
    for name, value in _CREDENTIALS.items():
        monkeypatch.setenv(name, value)


def _running_server(folder: Path) -> Iterator[S3Server]:
    server = S3Server(folder)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One server for all tests that leave it alone."""
    yield from _running_server(tmp_path_factory.mktemp("s3"))


@pytest.fixture
def own_s3_server(tmp_path: Path) -> Iterator[S3Server]:
    """A server for a test that kills it."""
    yield from _running_server(tmp_path / "s3")


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    return s3_server.new_bucket()


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[Proxy]:
    """A proxy before the shared server."""
    proxy = Proxy(s3_server.port)
    proxy.open()
    yield proxy
    proxy.close()


@pytest.fixture
def proxied(proxy: Proxy, bucket: str, tmp_path: Path) -> Workspace:
    """A workspace that reaches its bucket through the proxy."""
    settings = S3Settings(endpoint_url=proxy.endpoint, part_size_bytes=5 << 20, retry_for_s=30)
    return Workspace(f"s3://{bucket}/runs of/team", tmp_path / "local", s3=settings)


@pytest.fixture(params=["local", "s3"])
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    """A workspace on a local root, then one on S3: what holds for one holds for the other."""
    if request.param == "local":
        return Workspace(tmp_path / "root")
    server = request.getfixturevalue("s3_server")
    settings = S3Settings(endpoint_url=server.endpoint, part_size_bytes=5 << 20, retry_for_s=30)
    return Workspace(f"s3://{request.getfixturevalue('bucket')}/prefix", tmp_path / "local", s3=settings)
