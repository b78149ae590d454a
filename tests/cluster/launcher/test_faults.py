"""The launcher is killed, stopped and cut off; the job is one and the same all the time."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import launched_jobs
from launched_jobs import ALL_KINDS, Ground
from windlass.cluster.kinds import Resource
from windlass.cluster.launcher import Launcher
from windlass.cluster.status import JobState
from windlass.errors import EXIT_INTERRUPTED

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.fault]

both_kinds = pytest.mark.parametrize("kind", ALL_KINDS)
SLOW_COUNT = "i=0; while [ $i -lt 24 ]; do i=$((i+1)); echo $i; sleep 0.5; done"
NUMBERS = [str(number) for number in range(1, 25)]
LAUNCH = Path(__file__).parent / "launch.py"
CANCEL_S = 0.3
"""What Kubeflow Pipelines leaves a cancelled step."""


@contextmanager
def _launched(ground: Ground, script: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(LAUNCH), ground.kind, ground.namespace, script]
    environment = os.environ | {"PYTHONPATH": str(Path(launched_jobs.__file__).parent)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def _wait_for_line(process: subprocess.Popen[str], wanted: str) -> None:
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if line.strip() == wanted:
            return
    raise AssertionError(f"the launcher ended before {wanted!r}: {seen}")


@both_kinds
def test_a_killed_launcher_finds_its_job_again(ground: Ground) -> None:
    with _launched(ground, SLOW_COUNT) as process:
        _wait_for_line(process, "3")
        process.send_signal(signal.SIGKILL)
        process.wait()
    (before,) = ground.jobs()
    ground.run(ground.job(SLOW_COUNT))
    (after,) = ground.jobs()
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert "adopted" in ground.record.reports[0].text
    assert ground.record.lines == NUMBERS


def test_two_launchers_share_one_job(ground: Ground) -> None:
    with _launched(ground, SLOW_COUNT) as process:
        ground.run(ground.job(SLOW_COUNT))
        assert process.wait(timeout=60) == 0
    assert len(ground.jobs()) == 1
    assert ground.record.lines == NUMBERS


@both_kinds
def test_a_cancelled_launcher_deletes_the_job_before_anything_else(ground: Ground) -> None:
    _deletes_its_job_on(signal.SIGTERM, ground)


def test_ctrl_c_deletes_the_job_before_anything_else(ground: Ground) -> None:
    _deletes_its_job_on(signal.SIGINT, ground)


def _deletes_its_job_on(sent: signal.Signals, ground: Ground) -> None:
    with _launched(ground, f"echo ready; {SLOW_COUNT}") as process:
        _wait_for_line(process, "ready")
        taken_s = _time_to_deletion(ground, lambda: process.send_signal(sent))
        assert process.wait(timeout=30) == EXIT_INTERRUPTED
    assert taken_s < CANCEL_S
    _wait_until(lambda: not _pods(ground), 60)


def _time_to_deletion(ground: Ground, stop: Callable[[], None]) -> float:
    """From the signal until the API server says that the job is deleted, as a watch hears it."""
    from kubernetes import client, watch

    kind, custom = ground.launcher().kind, client.CustomObjectsApi(ground.api)
    gone = threading.Event()
    listening = threading.Event()

    def listen() -> None:
        where = (kind.group, kind.version, ground.namespace, kind.plural)
        for change in watch.Watch().stream(custom.list_namespaced_custom_object, *where, timeout_seconds=30):
            listening.set()
            if change["type"] == "DELETED" or "deletionTimestamp" in change["object"]["metadata"]:
                gone.set()
                return

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    assert listening.wait(10)
    began = time.monotonic()
    stop()
    assert gone.wait(20)
    taken_s = time.monotonic() - began
    listener.join()
    return taken_s


def _pods(ground: Ground) -> list[object]:
    from kubernetes import client

    return list(client.CoreV1Api(ground.api).list_namespaced_pod(ground.namespace).items)


def _wait_until(is_so: Callable[[], bool], timeout_s: float) -> None:
    until = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.2)


class CutProxy:
    """Passes TCP connections on to the API server until it is told to cut them, then refuses new ones for a while."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._refuses_until = 0.0
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, for_s: float) -> None:
        self.cuts += 1
        self._refuses_until = time.monotonic() + for_s
        sockets, self._sockets = self._sockets, []
        for each in sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut(0)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if time.monotonic() < self._refuses_until:
                near.close()
                continue
            far = socket.create_connection(self._target)
            self._sockets += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(65536):
                sink.sendall(piece)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def proxy(ground: Ground) -> Iterator[CutProxy]:
    address = urlsplit(ground.api.configuration.host)
    assert address.hostname
    with ExitStack() as stack:
        made = CutProxy(address.hostname, address.port or 443)
        stack.callback(made.close)
        yield made


def _launcher_behind(proxy: CutProxy, ground: Ground) -> Launcher:
    from kubernetes import client, config

    configuration = client.Configuration()
    config.load_kube_config(client_configuration=configuration)
    configuration.tls_server_name = urlsplit(configuration.host).hostname
    configuration.host = f"https://127.0.0.1:{proxy.port}"
    return Launcher(client.ApiClient(configuration), kind=ground.kind)


def test_broken_connections_lose_no_line_and_repeat_none(ground: Ground, proxy: CutProxy) -> None:
    for line, for_s in (("3", 0.0), ("6", 2.0), ("14", 0.0), ("18", 4.0)):
        ground.record.on_line[line] = lambda for_s=for_s: proxy.cut(for_s)  # type: ignore[misc]  # a default binds the value
    _launcher_behind(proxy, ground).run(ground.job(SLOW_COUNT), ground.record.log, ground.record.state)
    assert ground.record.lines == NUMBERS
    assert proxy.cuts == 4
    assert ground.record.reports[-1].state is JobState.SUCCEEDED


def test_an_expired_watch_is_begun_anew(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server no longer knows version 1 of anything: every watch that asks for it gets 410."""
    from windlass.cluster._watch import Watch

    taken = Watch._take
    expired: list[str] = []

    def forget_the_version(self: Watch, event: dict[str, Resource]) -> None:
        taken(self, event)
        if self.name not in expired:
            expired.append(self.name)
            self._version = "1"
            raise ConnectionError("cut off, to come back with a version that is too old")

    monkeypatch.setattr(Watch, "_take", forget_the_version)
    ground.run(ground.job("echo well; sleep 2"))
    assert {"watch-job", "watch-pod"} <= set(expired)
    assert ground.record.lines == ["well"]


@pytest.mark.cluster_node
def test_a_restarted_api_server_is_survived(ground: Ground) -> None:
    command = os.environ.get("WINDLASS_TEST_RESTART_APISERVER")
    if not command:
        pytest.skip("WINDLASS_TEST_RESTART_APISERVER names no command that restarts the API server")
    ground.record.on_line["4"] = lambda: subprocess.run(shlex.split(command), check=True)
    ground.run(ground.job(SLOW_COUNT))
    assert ground.record.lines == NUMBERS
    assert ground.record.reports[-1].state is JobState.SUCCEEDED
