"""How to reach an object store. Credentials, session tokens and profiles are found by boto3's own chain."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, PositiveInt, ValidationError

from windlass.schema import DurationS, Section, SizeBytes
from windlass.storage._errors import InvalidEndpointError, InvalidSettingError

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_MIN_PART_BYTES = 5 << 20
_VARIABLES = {"addressing": "WINDLASS_S3_ADDRESSING", "retry_for_s": "WINDLASS_S3_RETRY_FOR"}


class S3Settings(Section):
    """One object store. `endpoint_url` and `region` are boto3's own (`AWS_ENDPOINT_URL`, `AWS_REGION`) if left out."""

    endpoint_url: str | None = None
    region: str | None = None
    addressing: Literal["auto", "path", "virtual"] = Field(
        default="auto", description="the bucket in the path or in the host's name; auto is path off AWS"
    )
    retry_for_s: DurationS = Field(default=150.0, description="how long a request may keep failing")
    num_workers: PositiveInt = Field(default=16, description="requests at once")
    part_size_bytes: Annotated[SizeBytes, Field(ge=_MIN_PART_BYTES)] = 16 << 20

    @classmethod
    def from_environment(cls) -> Self:
        """The defaults, changed by `WINDLASS_S3_ADDRESSING` and `WINDLASS_S3_RETRY_FOR`.

        Raises:
            InvalidSettingError: names the variable, its value and what is wrong.
        """
        given = {field: os.environ[name] for field, name in _VARIABLES.items() if os.environ.get(name)}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            field = str(first["loc"][0])
            raise InvalidSettingError(_VARIABLES[field], given[field], first["msg"]) from None


def connect(settings: S3Settings) -> S3Client:
    """A client that leaves retries to us and sends checksums that other servers than AWS understand.

    Raises:
        InvalidEndpointError: the address is not a URL.
    """
    import boto3

    session = boto3.session.Session()
    endpoint = settings.endpoint_url or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint is None:  # a profile may name one, which only a client knows
        endpoint = _client(session, settings, {}).meta.endpoint_url
    host = urlsplit(endpoint).hostname or ""
    if host.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        return _client(session, settings, _addressing(settings.addressing))
    # boto3 1.36 and later send checksums by default that other servers refuse.
    style = "virtual" if settings.addressing == "virtual" else "path"
    when_required = {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
    return _client(session, settings, {**_addressing(style), **when_required})


def _addressing(style: str) -> dict[str, Any]:
    return {"s3": {"addressing_style": style}}


def _client(session: Any, settings: S3Settings, options: dict[str, Any]) -> S3Client:
    from botocore.config import Config

    config = Config(
        retries={"total_max_attempts": 1},
        max_pool_connections=settings.num_workers,
        connect_timeout=10,
        read_timeout=60,
        **options,
    )
    try:
        client: S3Client = session.client(
            "s3", endpoint_url=settings.endpoint_url, region_name=settings.region, config=config
        )
    except ValueError as error:
        if "endpoint" not in str(error):
            raise
        raise InvalidEndpointError(settings.endpoint_url or os.environ.get("AWS_ENDPOINT_URL", "")) from None
    return client
