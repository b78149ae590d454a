"""uvicorn's HTTP protocol, with the bounds that it lacks.

- A request that has not arrived whole within a deadline ends with 408; so does a connection that says nothing.
- More than `MAX_HEADER_BYTES` of headers, trailers or chunk extensions end with 431.
- Bytes that are not HTTP, a request with both Content-Length and Transfer-Encoding among them, end with a problem
  document instead of a line of text.
- On shutdown a connection that is idle gets a moment more: a client that is just sending its next request gets
  its answer, with `connection: close`, instead of a connection reset.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from windlass_gateway import problems

MAX_HEADER_BYTES = 64 * 1024
_IDLE_GRACE_S = 0.5


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection. The process that serves sets the deadline once, and `is_draining` when it begins to stop."""

    receive_deadline_s: ClassVar[float] = 30.0
    is_draining: ClassVar[bool] = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None
        self._silent_bytes = 0
        self._in_headers = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_deadline()
        if self.is_draining:
            # It was accepted in the moment in which uvicorn told all others.
            self.shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._deadline is None and self._in_headers:
            self._start_deadline()
        self._silent_bytes += len(data)
        super().data_received(data)
        if self._silent_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self._refuse(problems.HEADERS_TOO_LARGE, f"the headers are larger than {MAX_HEADER_BYTES} bytes")

    def on_headers_complete(self) -> None:
        self._in_headers, self._silent_bytes = False, 0
        super().on_headers_complete()
        if self.is_draining:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._silent_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._stop_deadline()
        self._in_headers, self._silent_bytes = True, 0
        if self.cycle.response_complete and self.timeout_keep_alive_task is None:
            # The answer went out before the end of the body, whose arrival has stopped this timer.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def send_400_response(self, msg: str) -> None:
        self._refuse(problems.MALFORMED_HTTP, msg)

    def shutdown(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(_IDLE_GRACE_S, self._close_if_idle)
        else:
            self.cycle.keep_alive = False

    def _close_if_idle(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def _start_deadline(self) -> None:
        self._deadline = self.loop.call_later(self.receive_deadline_s, self._on_deadline)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _on_deadline(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self._refuse(
                problems.TOO_SLOW, f"the request did not arrive whole within {self.receive_deadline_s:g} seconds"
            )

    def _refuse(self, problem: problems.Problem, detail: str) -> None:
        """End the connection, with an answer unless one was begun for the request that is arriving."""
        if self._in_headers:
            silent = self.cycle is None or self.cycle.response_complete
        else:
            silent = not self.cycle.response_started and not self.pipeline
        if silent:
            self.transport.write(problems.raw_response(problem, detail))
        self.transport.close()
