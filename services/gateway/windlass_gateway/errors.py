"""What can go wrong in the gateway. None of these knows HTTP: `problems` maps them to status codes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from windlass.errors import InvalidInputError, WindlassError
from windlass.schema import format_size


class PortTakenError(InvalidInputError):
    """Another process listens on the address."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(f"cannot listen on {host}, port {port}: {reason}; choose another one with --port")
        self.host, self.port = host, port


class NothingToServeError(InvalidInputError):
    """The registry has nothing of what the gateway was started for."""

    def __init__(self, tracking_uri: str, wanted: Sequence[str]) -> None:
        super().__init__(
            f"MLflow at {tracking_uri} has no {', '.join(wanted)}, so there is nothing to serve; `windlass models` "
            "lists what is registered, `windlass run RECIPE` registers a version"
        )
        self.tracking_uri, self.wanted = tracking_uri, tuple(wanted)


class CacheInUseError(InvalidInputError):
    """Another gateway owns the cache directory."""

    def __init__(self, cache: Path) -> None:
        super().__init__(f"another gateway uses the cache {cache}; stop it, or give this one a cache of its own")
        self.cache = cache


class InvalidNameError(InvalidInputError):
    """Not a name that a registered model or an alias can have here."""

    def __init__(self, name: str) -> None:
        shown = name if len(name) <= 80 else name[:80] + "…"
        super().__init__(
            f"{shown!r} is not a name that is served here: letters, digits, dots, dashes and underscores, "
            "at most 128 of them, a letter or digit first"
        )
        self.name = name


class UnknownModelError(WindlassError):
    """No such registered model, or none that this gateway was asked to serve."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no model {name!r} is served here; GET /v1/models lists those that are")
        self.name = name


class UnknownVersionError(WindlassError):
    """The registry has no such version of the model."""

    def __init__(self, name: str, version: int) -> None:
        super().__init__(f"model {name!r} has no version {version}; GET /v1/models/{name} lists those that it has")
        self.name, self.version = name, version


class UnknownAliasError(WindlassError):
    """The model has no such alias."""

    def __init__(self, name: str, alias: str) -> None:
        super().__init__(f"model {name!r} has no alias {alias!r}; GET /v1/models/{name} lists those that it has")
        self.name, self.alias = name, alias


class NoDefaultVersionError(WindlassError):
    """The name alone does not say which version is meant."""

    def __init__(self, name: str, aliases: tuple[str, ...]) -> None:
        has = f"the aliases {', '.join(aliases)} and none of them is 'champion'" if aliases else "no alias"
        super().__init__(f"model {name!r} has {has}; ask for one by {name}@ALIAS or {name}/versions/N")
        self.name, self.aliases = name, aliases


class VersionNotReadyError(WindlassError):
    """The version exists and is being fetched or loaded."""

    def __init__(self, name: str, version: int, retry_after_s: int) -> None:
        super().__init__(f"version {version} of model {name!r} is being fetched; ask again in {retry_after_s} s")
        self.name, self.version, self.retry_after_s = name, version, retry_after_s


class VersionRefusedError(WindlassError):
    """The version cannot be served: it is damaged, or does not give the answers that it was registered with."""

    def __init__(self, name: str, version: int, reason: str) -> None:
        super().__init__(f"version {version} of model {name!r} is not served: {reason}")
        self.name, self.version, self.reason = name, version, reason


class NotReadyError(WindlassError):
    """Nothing can be answered yet for at least one alias."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class BodyTooLargeError(InvalidInputError):
    """The body of a request is larger than allowed."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the body is larger than {format_size(limit_bytes)}; send fewer rows in each request")
        self.limit_bytes = limit_bytes


class TooManyRowsError(InvalidInputError):
    """A request has more rows than allowed."""

    def __init__(self, rows: int, limit: int) -> None:
        super().__init__(f"{rows} rows in one request are more than {limit}; send them in several requests")
        self.rows, self.limit = rows, limit


class MalformedJsonError(InvalidInputError):
    """The body is not JSON, or is nested too deeply to be read."""


class InvalidRequestError(InvalidInputError):
    """The body is JSON, but not a request."""


class UnsupportedEncodingError(InvalidInputError):
    """The body is compressed."""

    def __init__(self, encoding: str) -> None:
        super().__init__(f"a body with Content-Encoding {encoding[:40]!r} is not read; send it uncompressed")
        self.encoding = encoding


class ForeignHostError(InvalidInputError):
    """The request was meant for another host name."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"requests for the host {host[:80]!r} are not answered; start the gateway with it among allowed_hosts"
        )
        self.host = host
