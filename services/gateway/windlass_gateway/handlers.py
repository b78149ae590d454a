"""What an exception becomes for the caller: always a problem document, never a path or a stack."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import structlog
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from windlass.errors import WindlassError
from windlass.variants.engines import PredictionError
from windlass.variants.rows import InvalidRowsError
from windlass_gateway import problems
from windlass_gateway.errors import VersionNotReadyError

_log = structlog.get_logger()


async def _ours(_: Request, error: WindlassError) -> Response:
    problem = problems.problem_of(error)
    if problem is problems.INTERNAL:
        raise error
    if isinstance(error, PredictionError):
        _log.error("prediction failed", exc_info=error)
    more = {"row": error.row, "column": error.column} if isinstance(error, InvalidRowsError) else {}
    headers = {"retry-after": str(error.retry_after_s)} if isinstance(error, VersionNotReadyError) else None
    return Response(problems.document(problem, str(error), **more), problem.status, headers, problems.MEDIA_TYPE)


async def _invalid_parameter(_: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    problem = problems.INVALID_PARAMETER
    content = problems.document(problem, f"{first['loc'][-1]}: {first['msg']}")
    return Response(content, problem.status, media_type=problems.MEDIA_TYPE)


async def _http(_: Request, error: HTTPException) -> Response:
    content = problems.http_document(error.status_code, str(error.detail))
    return Response(content, error.status_code, error.headers, problems.MEDIA_TYPE)


async def _client_is_gone(_: Request, _error: ClientDisconnect) -> Response:
    return Response(status_code=400)


async def _internal(_: Request, _error: Exception) -> Response:
    problem = problems.INTERNAL
    content = problems.document(problem, "the request could not be answered; the gateway's log says why")
    return Response(content, problem.status, media_type=problems.MEDIA_TYPE)


HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    WindlassError: _ours,
    RequestValidationError: _invalid_parameter,
    HTTPException: _http,
    ClientDisconnect: _client_is_gone,
    Exception: _internal,
}
