"""The HTTP interface of a worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson
from fastapi import FastAPI, Request
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import PositiveInt
from starlette.responses import Response

import windlass
from windlass.variants.rows import rows_to_tensors, tensors_to_answers
from windlass_gateway import problems
from windlass_gateway.body import read_rows
from windlass_gateway.config import GatewayConfig
from windlass_gateway.documents import (
    PREDICT_REQUEST,
    ModelReply,
    ModelsReply,
    PredictReply,
    ReadyReply,
    VersionReply,
    describe_model,
    describe_version,
)
from windlass_gateway.errors import UnknownModelError
from windlass_gateway.handlers import HANDLERS
from windlass_gateway.hosts import HostGate
from windlass_gateway.metrics import WorkerMetrics
from windlass_gateway.models import Loaded, ModelTable

_PROBLEM = {"description": "A problem document (RFC 9457)", "content": {problems.MEDIA_TYPE: {}}}
_RESPONSES: dict[int | str, dict[str, Any]] = {"4XX": _PROBLEM, "5XX": _PROBLEM}
_PREDICT: dict[str, Any] = {"responses": _RESPONSES, "response_model": PredictReply, "openapi_extra": PREDICT_REQUEST}


def create_app(config: GatewayConfig, table: ModelTable, metrics: WorkerMetrics) -> FastAPI:
    """The application of one worker. While it runs, `table` follows the cache."""

    @asynccontextmanager
    async def follow_the_cache(_: FastAPI) -> AsyncIterator[None]:
        await table.refresh()
        watching = asyncio.create_task(table.watch())
        watching.add_done_callback(_raise_unless_cancelled)
        yield
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        table.close()

    app = FastAPI(
        title="Windlass gateway",
        description="Predictions of registered model versions, by alias or by number.",
        version=windlass.__version__,
        lifespan=follow_the_cache,
        # The pages of FastAPI load scripts from a content network; nothing here calls out.
        docs_url=None,
        redoc_url=None,
        exception_handlers=HANDLERS,
    )
    app.add_middleware(HostGate, allowed_hosts=config.allowed_hosts, metrics=metrics)
    _add_health(app, table, metrics)
    _add_models(app, table)
    _add_predictions(app, _Predictor(config, metrics), table)
    return app


class _Predictor:
    """Turns rows into a reply, in one thread beside the event loop.

    One thread, because the engine has `threads` of its own and a second call at once would only take its cores;
    beside the loop, so that health, metrics and new requests are answered while a long model runs.
    """

    def __init__(self, config: GatewayConfig, metrics: WorkerMetrics) -> None:
        self._config, self._metrics = config, metrics
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="predict")

    async def reply(self, request: Request, loaded: Loaded) -> Response:
        rows = await read_rows(request, self._config)
        content = await asyncio.get_running_loop().run_in_executor(self._thread, _predict, loaded, rows)
        self._metrics.rows.labels(loaded.name, str(loaded.version)).inc(len(rows))
        headers = {"windlass-model": loaded.name, "windlass-version": str(loaded.version)}
        return Response(content, media_type="application/json", headers=headers)


def _predict(loaded: Loaded, rows: list[Any]) -> bytes:
    signature = loaded.variant.signature
    outputs = loaded.engine.predict(rows_to_tensors(signature, rows))
    reply = {
        "model": loaded.name,
        "version": loaded.version,
        "predictions": tensors_to_answers(signature, outputs),
    }
    return orjson.dumps(reply)


def _add_predictions(app: FastAPI, predictor: _Predictor, table: ModelTable) -> None:
    @app.post("/v1/models/{name}@{alias}/predict", tags=["predict"], **_PREDICT)
    async def predict_by_alias(name: str, alias: str, request: Request) -> Response:
        """Answer each row, in the order given, with the version that the alias points to."""
        return await predictor.reply(request, await table.by_name(name, alias))

    @app.post("/v1/models/{name}/versions/{version}/predict", tags=["predict"], **_PREDICT)
    async def predict_by_version(name: str, version: PositiveInt, request: Request) -> Response:
        """Answer each row, in the order given, with one registered version."""
        return await predictor.reply(request, await table.by_version(name, version))

    @app.post("/v1/models/{name}/predict", tags=["predict"], **_PREDICT)
    async def predict(name: str, request: Request) -> Response:
        """Answer each row with the version of the alias `champion`, or of the model's only alias."""
        return await predictor.reply(request, await table.by_name(name))


def _add_models(app: FastAPI, table: ModelTable) -> None:
    @app.get("/v1/models", tags=["models"], responses=_RESPONSES)
    async def models() -> ModelsReply:
        """The models that are served."""
        return ModelsReply(models=[describe_model(table, name) for name in sorted(table.routes.models)])

    @app.get("/v1/models/{name}", tags=["models"], responses=_RESPONSES)
    async def model(name: str) -> ModelReply:
        """One model: its aliases and versions."""
        if name not in table.routes.models:
            raise UnknownModelError(name)
        return describe_model(table, name)

    @app.get("/v1/models/{name}/versions/{version}", tags=["models"], responses=_RESPONSES)
    async def version(name: str, version: PositiveInt) -> VersionReply:
        """One version: what it takes, what it gives, how it was made."""
        return describe_version(table, await table.by_version(name, version))


def _add_health(app: FastAPI, table: ModelTable, metrics: WorkerMetrics) -> None:
    @app.get("/livez", tags=["health"])
    async def livez() -> dict[str, str]:
        """This process answers."""
        return {"status": "alive"}

    @app.get("/readyz", tags=["health"], responses=_RESPONSES)
    async def readyz() -> ReadyReply:
        """Every alias has a version that answers; `problems` says what keeps it behind the registry."""
        table.check_ready()
        return ReadyReply(
            status="ready",
            models={name: table.aliases(name) for name in sorted(table.routes.models)},
            problems=table.problems(),
        )

    @app.get("/metrics", tags=["health"], response_class=Response)
    def figures() -> Response:
        """Figures for Prometheus, over all processes of this gateway."""
        return Response(metrics.render(), media_type=CONTENT_TYPE_LATEST)


def _raise_unless_cancelled(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.result()
