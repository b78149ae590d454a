"""The first gate: which host names are answered; and the figures of every request.

A page that a person visits can point a name of its own at their machine and ask the gateway in their stead; its
requests carry that name. An address in `Host` cannot come about that way.
"""

from __future__ import annotations

import ipaddress
import re
import time

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from windlass_gateway import problems
from windlass_gateway.errors import ForeignHostError
from windlass_gateway.metrics import WorkerMetrics

_HOST = re.compile(r"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<name>[^:\[\]@/]+))(?::[0-9]*)?")
_ALWAYS = ("/livez", "/readyz")


class HostGate:
    """Answers 403 to requests for foreign host names, health aside, and counts what every request came to."""

    def __init__(self, app: ASGIApp, *, allowed_hosts: tuple[str, ...], metrics: WorkerMetrics) -> None:
        self._app, self._metrics = app, metrics
        self._any = "*" in allowed_hosts
        self._names = {"localhost", *(name.lower() for name in allowed_hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = time.perf_counter()
        status = 500

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            host = Headers(scope=scope).get("host", "")
            if scope["path"] in _ALWAYS or self._is_allowed(host):
                await self._app(scope, receive, send_and_note)
            else:
                await _foreign(host)(scope, receive, send_and_note)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.requests.labels(scope["method"], route, str(status)).inc()
            self._metrics.request_seconds.labels(route).observe(time.perf_counter() - started_s)

    def _is_allowed(self, host: str) -> bool:
        if self._any:
            return True
        parts = _HOST.fullmatch(host)
        if parts is None:
            return False
        name = parts["name"] or parts["address"]
        if name.lower() in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _foreign(host: str) -> Response:
    error = ForeignHostError(host)
    problem = problems.problem_of(error)
    return Response(problems.document(problem, str(error)), problem.status, media_type=problems.MEDIA_TYPE)
