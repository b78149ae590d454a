"""A process that answers requests: `python -m windlass_gateway.worker CONFIG --socket FD --life FD`."""

from __future__ import annotations

import argparse
import asyncio
import math
import socket
from pathlib import Path

import uvicorn

from windlass_gateway import logs
from windlass_gateway.app import create_app
from windlass_gateway.config import GatewayConfig
from windlass_gateway.metrics import WorkerMetrics
from windlass_gateway.models import ModelTable
from windlass_gateway.protocol import BoundedHttpProtocol

_KEEP_ALIVE_S = 15
_BACKLOG = 2048


class _Server(uvicorn.Server):
    """Tells connections first that no further request will follow."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        BoundedHttpProtocol.is_draining = True
        await super().shutdown(sockets)


def run(config: GatewayConfig, listener: socket.socket, life: int) -> None:
    """Answer requests that come in on `listener` until SIGTERM, or until the supervisor is gone; then drain."""
    metrics = WorkerMetrics()
    table = ModelTable(config, metrics)
    BoundedHttpProtocol.receive_deadline_s = config.receive_deadline_s
    server = _Server(
        uvicorn.Config(
            create_app(config, table, metrics),
            http=BoundedHttpProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=math.ceil(config.drain_s),
        )
    )

    async def serve() -> None:
        loop = asyncio.get_running_loop()

        def supervisor_is_gone() -> None:
            loop.remove_reader(life)
            server.should_exit = True

        loop.add_reader(life, supervisor_is_gone)
        await server.serve(sockets=[listener])

    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(serve())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--life", type=int, required=True)
    arguments = parser.parse_args()
    logs.configure("worker")
    config = GatewayConfig.model_validate_json(arguments.config.read_bytes())
    run(config, socket.socket(fileno=arguments.socket), arguments.life)


if __name__ == "__main__":
    main()
