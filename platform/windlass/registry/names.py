"""What a model, a version and an alias are called; the same rule for recipes, command lines and servers."""

from __future__ import annotations

import re

from windlass.registry.errors import InvalidModelNameError, InvalidVersionError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ALIAS = re.compile(r"(?!v\d+$|latest$)[A-Za-z][A-Za-z0-9_-]{0,127}", re.IGNORECASE)


def check_name(name: str) -> str:
    """The name itself.

    Raises:
        InvalidModelNameError: it holds anything that a path, a shell or a filter could read as something else.
    """
    if not is_name(name):
        raise InvalidModelNameError(name)
    return name


def is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and ".." not in name


def is_alias(alias: str) -> bool:
    """MLflow keeps `latest` and `v1`, `v2`, … for itself."""
    return _ALIAS.fullmatch(alias) is not None


def parse_spec(spec: str) -> tuple[str, int | str | None]:
    """`digits`, `digits/2` or `digits@champion` as the name and None, the number, or the alias."""
    name, separator, rest = spec.partition("@")
    if separator:
        if not is_alias(rest):
            raise InvalidVersionError(spec)
        return check_name(name), rest
    name, separator, rest = spec.partition("/")
    if not separator:
        return check_name(name), None
    if re.fullmatch(r"[1-9][0-9]{0,8}", rest) is None:
        raise InvalidVersionError(spec)
    return check_name(name), int(rest)
