"""A proxy before a server of a test, that cuts, damages, loses and slows what passes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Proxy:
    """Passes TCP connections on to a server.

    `faults` are done to the next large answers, one each: `cut` ends it early, `flip` changes a byte. `upload_faults`
    does the same to large requests. `cut_after_bytes` ends the answer in which so many bytes have come down.
    `lose_answer_to` holds texts of requests whose answer is lost, once each.
    """

    def __init__(self, server_port: int) -> None:
        self.port = free_port()
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
