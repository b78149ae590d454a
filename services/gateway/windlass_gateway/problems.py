"""Errors as problem documents (RFC 9457), and the one table that maps our errors to status codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson

from windlass.errors import WindlassError
from windlass.variants.engines import PredictionError
from windlass.variants.rows import InvalidRowsError
from windlass_gateway import errors

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:windlass:problem:"


@dataclass(frozen=True)
class Problem:
    """A kind of problem: its name in `type`, its status code, and its title for people."""

    name: str
    status: int
    title: str


MALFORMED_HTTP = Problem("malformed-http", 400, "Not a valid HTTP request")
HEADERS_TOO_LARGE = Problem("headers-too-large", 431, "The headers are too large")
TOO_SLOW = Problem("too-slow", 408, "The request did not arrive in time")
INTERNAL = Problem("internal", 500, "The model or the gateway failed")
INVALID_PARAMETER = Problem("invalid-parameter", 422, "A part of the path is not what it has to be")

BY_ERROR: dict[type[WindlassError], Problem] = {
    errors.InvalidNameError: Problem("invalid-name", 400, "Not a name"),
    errors.UnknownModelError: Problem("unknown-model", 404, "No such model"),
    errors.UnknownVersionError: Problem("unknown-version", 404, "No such version"),
    errors.UnknownAliasError: Problem("unknown-alias", 404, "No such alias"),
    errors.NoDefaultVersionError: Problem("no-default-version", 404, "The name alone names no version"),
    errors.VersionNotReadyError: Problem("version-not-ready", 503, "The version is being fetched"),
    errors.VersionRefusedError: Problem("version-refused", 503, "The version cannot be served"),
    errors.NotReadyError: Problem("not-ready", 503, "Not everything is loaded"),
    errors.BodyTooLargeError: Problem("body-too-large", 413, "The body is too large"),
    errors.TooManyRowsError: Problem("too-many-rows", 413, "Too many rows"),
    errors.MalformedJsonError: Problem("malformed-json", 400, "The body is not JSON"),
    errors.InvalidRequestError: Problem("invalid-request", 422, "The body is not a request"),
    errors.UnsupportedEncodingError: Problem("unsupported-encoding", 415, "The body is compressed"),
    errors.ForeignHostError: Problem("foreign-host", 403, "The host name is not served"),
    InvalidRowsError: Problem("invalid-rows", 422, "A row does not fit the model"),
    PredictionError: Problem("model-failed", 500, "The model failed"),
}


def every_problem() -> list[Problem]:
    """All kinds of problem that the gateway answers with, those of HTTP itself aside."""
    return [MALFORMED_HTTP, HEADERS_TOO_LARGE, TOO_SLOW, INTERNAL, INVALID_PARAMETER, *BY_ERROR.values()]


def problem_of(error: WindlassError) -> Problem:
    """The kind of problem of an error of ours; one that the table does not know is internal."""
    for kind in type(error).__mro__:
        if kind in BY_ERROR:
            return BY_ERROR[kind]
    return INTERNAL


def document(problem: Problem, detail: str, **more: Any) -> bytes:
    """The body of a problem document."""
    fields = {
        "type": TYPE_PREFIX + problem.name,
        "title": problem.title,
        "status": problem.status,
        "detail": detail,
    }
    return orjson.dumps(fields | more)


def http_document(status: int, detail: str) -> bytes:
    """A problem that says no more than its status code does, such as 405."""
    return orjson.dumps({"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail})


def raw_response(problem: Problem, detail: str, headers: Mapping[str, str] | None = None) -> bytes:
    """A whole HTTP/1.1 response that ends its connection, for a request that never became one."""
    body = document(problem, detail)
    lines = [
        f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}",
        f"content-type: {MEDIA_TYPE}",
        f"content-length: {len(body)}",
        "connection: close",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
