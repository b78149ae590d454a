"""The body of a prediction request: read within bounds, checked before anything is allocated for it."""

from __future__ import annotations

import re
from typing import Any

import orjson
from starlette.requests import Request

from windlass_gateway.config import GatewayConfig
from windlass_gateway.errors import (
    BodyTooLargeError,
    InvalidRequestError,
    MalformedJsonError,
    TooManyRowsError,
    UnsupportedEncodingError,
)

# Possessive and never failing, also on a string without an end: linear in the size of a hostile body.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_NO_BRACKET = bytes(set(range(256)) - set(b"[]{}"))
_AS_LISTS = bytes.maketrans(b"{}", b"[]")


async def read_rows(request: Request, config: GatewayConfig) -> list[Any]:
    """The rows of a request.

    Raises:
        BodyTooLargeError, TooManyRowsError, MalformedJsonError, InvalidRequestError, UnsupportedEncodingError.
    """
    body = await _read(request, config.max_body_bytes)
    return parse_rows(body, config)


def parse_rows(body: bytes, config: GatewayConfig) -> list[Any]:
    """The rows of a body `{"rows": [...]}`; errors as `read_rows`."""
    if is_deeper_than(body, config.max_json_depth):
        raise MalformedJsonError(
            f"the body is nested deeper than {config.max_json_depth} lists and objects, or its brackets do not match"
        )
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedJsonError(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict) or set(value) != {"rows"} or not isinstance(value["rows"], list):
        raise InvalidRequestError('the body must be {"rows": [...]}, a list of rows and nothing else')
    rows: list[Any] = value["rows"]
    if not rows:
        raise InvalidRequestError("rows is empty; send at least one row")
    if len(rows) > config.max_rows:
        raise TooManyRowsError(len(rows), config.max_rows)
    return rows


def is_deeper_than(body: bytes, depth: int) -> bool:
    """Whether brackets outside strings nest deeper than `depth`, or do not match; nothing is parsed for it.

    Each round takes away the innermost pairs, so what is left after `depth` rounds was deeper. Objects count as lists;
    that a bracket is closed by one of its kind is left to the parser.
    """
    brackets = _STRING.sub(b"", body).translate(_AS_LISTS, _NO_BRACKET)
    for _ in range(depth):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


async def _read(request: Request, limit_bytes: int) -> bytes:
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise UnsupportedEncodingError(encoding)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit_bytes:
        raise BodyTooLargeError(limit_bytes)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit_bytes:
            raise BodyTooLargeError(limit_bytes)
    return bytes(body)
