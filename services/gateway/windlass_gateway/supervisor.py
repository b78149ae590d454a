"""Starts the reconciler and the workers, starts them again when they die, and stops them without dropping requests."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from types import FrameType

import structlog
from prometheus_client.multiprocess import mark_process_dead

from windlass.errors import EXIT_FAILURE, CorruptedError
from windlass.registry.names import parse_spec
from windlass.registry.redaction import redact
from windlass.variants.engines import check_device
from windlass_gateway import life, logs
from windlass_gateway.cache import Cache, Routes
from windlass_gateway.config import GatewayConfig
from windlass_gateway.errors import NothingToServeError, PortTakenError
from windlass_gateway.metrics import DIRECTORY_VARIABLE

_BACKLOG = 2048
_TICK_S = 0.1
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 30.0
_SETTLED_S = 30.0
_KILL_MARGIN_S = 5.0

_log = structlog.get_logger()


def serve(config: GatewayConfig, *, wanted: Sequence[str] = ()) -> int:
    """Serve until SIGTERM or SIGINT, then let open requests end; a second signal ends them at once.

    Args:
        wanted: NAME, NAME/VERSION or NAME@ALIAS; if the registry, once it answers, has none of them, the gateway ends
            instead of waiting for one. Nothing named: it waits.

    Returns:
        0, or 1 when requests were still open after `drain_s`.

    Raises:
        DeviceUnavailableError: this machine does not run models on `config.device`.
        NothingToServeError: the registry has nothing of what is wanted.
        PortTakenError: the address cannot be listened on.
        CacheInUseError: another gateway uses the cache directory.
    """
    logs.configure("gateway")
    check_device(config.device)
    config = config.model_copy(update={"cache": config.cache.resolve()})
    cache = Cache(config)
    with ExitStack() as stack:
        stack.enter_context(cache.lock("supervisor"))
        listener = stack.enter_context(closing(_listen(config)))
        reading, writing = life.make()
        stack.callback(os.close, writing)
        stack.callback(os.close, reading.descriptor)
        stopping = stack.enter_context(_signals())
        gateway = _Gateway(config, cache, listener, reading.descriptor, wanted)
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        _log.info("listening", url=f"http://{shown}:{port}", workers=config.workers, pid=os.getpid())
        return gateway.run(stopping)


@dataclass
class _Stopping:
    """How often the gateway was asked to stop."""

    signals: int = 0


@dataclass
class _Child:
    """One process that has to be there."""

    role: str
    command: list[str]
    inherited: tuple[int, ...]
    """Descriptors. Only workers hold the listener: another that held it at the end would let callers queue there."""
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    pause_s: float = _FIRST_PAUSE_S
    start_at_s: float = field(default_factory=time.monotonic)

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def send(self, number: signal.Signals) -> None:
        if self.process is not None and self.is_running:
            self.process.send_signal(number)


class _Gateway:
    """The processes of one gateway."""

    def __init__(
        self, config: GatewayConfig, cache: Cache, listener: socket.socket, reading: int, wanted: Sequence[str]
    ) -> None:
        self._config, self._cache, self._listener, self._wanted = config, cache, listener, tuple(wanted)
        self._announced = Routes()
        # what an earlier gateway has left says nothing about the registry of now
        self._announced_stamp = cache.routes_stamp() if wanted else None
        metrics = cache.directory / "metrics"
        shutil.rmtree(metrics, ignore_errors=True)
        metrics.mkdir()
        self._metrics = metrics
        self._environment = os.environ | {DIRECTORY_VARIABLE: str(metrics)}
        config_path = cache.directory / "gateway.json"
        config_path.write_text(config.model_dump_json(indent=2), encoding="utf-8")
        common = [sys.executable, "-m"]
        life_arguments = [str(config_path), "--life", str(reading)]
        self._reconciler = _Child(
            "reconciler", [*common, "windlass_gateway.reconciler", *life_arguments], inherited=(reading,)
        )
        listening = ["--socket", str(listener.fileno())]
        worker = [*common, "windlass_gateway.worker", *life_arguments, *listening]
        self._workers = [
            _Child("worker", worker, inherited=(reading, listener.fileno())) for _ in range(config.workers)
        ]

    @property
    def _children(self) -> list[_Child]:
        return [*self._workers, self._reconciler]

    def run(self, stopping: _Stopping) -> int:
        try:
            while not stopping.signals:
                for child in self._children:
                    self._keep(child)
                self._announce()
                time.sleep(_TICK_S)
            return self._drain(stopping)
        finally:
            for child in self._children:
                child.send(signal.SIGKILL)
                if child.process is not None:
                    child.process.wait()

    def _keep(self, child: _Child) -> None:
        """Start the process if it is not there; the sooner it dies, the longer the pause before the next one."""
        now_s = time.monotonic()
        if child.is_running:
            return
        if child.process is not None:
            lived_s = round(now_s - child.started_s, 1)
            mark_process_dead(child.process.pid, str(self._metrics))  # type: ignore[no-untyped-call]
            child.pause_s = _FIRST_PAUSE_S if lived_s > _SETTLED_S else min(2 * child.pause_s, _LONGEST_PAUSE_S)
            _log.warning(
                "process ended", role=child.role, pid=child.process.pid, code=child.process.returncode, lived_s=lived_s
            )
            child.process, child.start_at_s = None, now_s + (0 if lived_s > _SETTLED_S else child.pause_s)
        if now_s >= child.start_at_s:
            child.process = subprocess.Popen(
                child.command,
                env=self._environment,
                pass_fds=child.inherited,
                stdin=subprocess.DEVNULL,
                # Ctrl-C on the terminal is for the supervisor, which lets the workers drain.
                start_new_session=True,
            )
            child.started_s = now_s
            _log.info("process started", role=child.role, pid=child.process.pid)

    def _announce(self) -> None:
        """Say what is served when it changes: what a person waits for after they have started the gateway."""
        stamp = self._cache.routes_stamp()
        if stamp == self._announced_stamp:
            return
        self._announced_stamp = stamp
        try:
            routes = self._cache.read_routes()
        except CorruptedError as error:
            _log.error("routes unreadable", reason=str(error))
            return
        for name, model in routes.models.items():
            before = self._announced.models.get(name)
            for alias, version in model.aliases.items():
                if before is None or before.aliases.get(alias) != version:
                    _log.info("published", model=name, alias=alias, version=version)
        for problem in set(routes.problems) - set(self._announced.problems):
            _log.warning("behind the registry", problem=problem)
        self._announced = routes
        if self._wanted and routes.absent is not None:
            self._check_wanted(routes)

    def _check_wanted(self, routes: Routes) -> None:
        """Once, when the registry has been read: what goes away later does not stop what is served."""
        absent = [spec for spec in self._wanted if not _has(routes, spec)]
        if len(absent) == len(self._wanted):
            raise NothingToServeError(redact(self._config.tracking_uri), absent)
        for spec in absent:
            _log.warning("not in the registry", wanted=spec)
        self._wanted = ()

    def _drain(self, stopping: _Stopping) -> int:
        _log.info("draining", seconds=self._config.drain_s)
        self._listener.close()
        for child in self._children:
            child.send(signal.SIGTERM)
        end_s = time.monotonic() + self._config.drain_s + _KILL_MARGIN_S
        while any(child.is_running for child in self._workers):
            if time.monotonic() > end_s or stopping.signals > 1:
                _log.error("requests were still open")
                return EXIT_FAILURE
            time.sleep(_TICK_S)
        _log.info("stopped")
        return 0


def _has(routes: Routes, spec: str) -> bool:
    """Whether the registry has NAME, NAME/VERSION or NAME@ALIAS; what it has and refuses to give counts."""
    name, which = parse_spec(spec)
    model = routes.models.get(name)
    if model is None or which is None:
        return model is not None
    if isinstance(which, int):
        return model.find(which) is not None
    return which in model.aliases or any(problem.startswith(f"{name}@{which} ") for problem in routes.problems)


def _listen(config: GatewayConfig) -> socket.socket:
    """One socket for all workers; held here, connections wait for a worker that is being replaced."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        raise PortTakenError(config.host, config.port, error.strerror or str(error)) from None
    return listener


@contextmanager
def _signals() -> Iterator[_Stopping]:
    stopping = _Stopping()

    def ask(_number: int, _frame: FrameType | None) -> None:
        stopping.signals += 1

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
