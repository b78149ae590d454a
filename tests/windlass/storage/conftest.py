"""An S3 server as a process of its own, and a proxy that cuts, damages, loses and slows what passes.

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
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from windlass.storage import S3Settings, Workspace

COMMAND_VARIABLE = "WINDLASS_TEST_S3_SERVER"
_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test-secret-key",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class S3Server:
    """A server process that can be killed and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, _free_port()
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


class Proxy:
    """Passes TCP connections on to a server.

    `faults` are done to the next large answers, one each: `cut` ends it early, `flip` changes a byte. `upload_faults`
    does the same to large requests. `cut_after_bytes` ends the answer in which so many bytes have come down.
    `lose_answer_to` holds texts of requests whose answer is lost, once each.
    """

    def __init__(self, server_port: int) -> None:
        self.port = _free_port()
        self.bytes_up = 0
        self.bytes_down = 0
        self.cut_after_bytes: int | None = None
        self.faults: list[str] = []
        self.upload_faults: list[str] = []
        self.lose_answer_to: list[bytes] = []
        self.upload_rate: float | None = None
        self._server_port = server_port
        self._sockets: list[socket.socket] = []
        self._listener: socket.socket | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        """From now on connections are refused, and those that are open break."""
        assert self._listener is not None
        for end in [self._listener, *self._sockets]:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._sockets.clear()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._server_port))
                except OSError:
                    client.close()
                    continue
                self._sockets += [client, server]
                lost = threading.Event()
                for pump in (self._pump_up, self._pump_down):
                    threading.Thread(target=pump, args=(client, server, lost), daemon=True).start()

    def _pump_up(self, client: socket.socket, server: socket.socket, lost: threading.Event) -> None:
        def change(data: bytes) -> bytes | None:
            self.bytes_up += len(data)
            for text in [text for text in self.lose_answer_to if text in data.lower()]:
                self.lose_answer_to.remove(text)
                lost.set()
            if self.upload_rate:
                time.sleep(len(data) / self.upload_rate)
            return self._damaged(data, self.upload_faults)

        self._pump(client, server, change)

    def _pump_down(self, client: socket.socket, server: socket.socket, lost: threading.Event) -> None:
        def change(data: bytes) -> bytes | None:
            # `100 Continue` comes before the body is sent: the answer to lose is the one after it.
            if lost.is_set() and not data.startswith(b"HTTP/1.1 100"):
                return None
            self.bytes_down += len(data)
            if self.cut_after_bytes is not None and self.bytes_down > self.cut_after_bytes:
                self.cut_after_bytes = None
                return None
            return self._damaged(data, self.faults)

        self._pump(server, client, change)

    @staticmethod
    def _damaged(data: bytes, faults: list[str]) -> bytes | None:
        if len(data) < 4096 or not faults:
            return data
        if faults.pop(0) == "cut":
            return None
        middle = len(data) // 2
        return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket, change: Callable[[bytes], bytes | None]) -> None:
        with suppress(OSError):
            while (data := source.recv(1 << 16)) and (passed := change(data)) is not None:
                target.sendall(passed)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


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
