"""A proxy before an object store that shortens answers and says so in their length: only a checksum can tell.

`python truncating_proxy.py HOST PORT LISTEN_PORT COUNT` shortens the first COUNT answers to GET that hold enough, and
prints the path of each.
"""

from __future__ import annotations

import sys
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_ENOUGH_BYTES = 2048
_OF_ONE_CONNECTION = frozenset({"connection", "content-length", "transfer-encoding", "date", "server"})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    target: tuple[str, int]
    left: int

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        upstream = HTTPConnection(*self.target, timeout=60)
        try:
            # The signature holds for the host that the client named.
            upstream.request(self.command, self.path, body, dict(self.headers.items()))
            answer = upstream.getresponse()
            data = answer.read()
        finally:
            upstream.close()
        if self.command == "GET" and len(data) > _ENOUGH_BYTES and type(self).left > 0:
            type(self).left -= 1
            print(f"truncated {self.path}", flush=True)
            data = data[: len(data) // 2]
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _OF_ONE_CONNECTION:
                self.send_header(name, value)
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on  # noqa: N815  (http.server's names)

    def log_message(self, *_: object) -> None:
        """Nothing but what was shortened."""


def main(host: str, port: str, listen_port: str, count: str) -> None:
    _Handler.target, _Handler.left = (host, int(port)), int(count)
    ThreadingHTTPServer(("0.0.0.0", int(listen_port)), _Handler).serve_forever()  # noqa: S104  (of a pod)


if __name__ == "__main__":
    main(*sys.argv[1:])
