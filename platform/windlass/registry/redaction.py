"""Credentials are taken out of whatever goes to the tracking store, to a log or into a message."""

from __future__ import annotations

import os
import re

REDACTED = "***"

_SECRET_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
)
_WORDS = r"(?:password|passwd|pwd|secret|token|credentials?|api[_-]?key|access[_-]?key(?:[_-]?id)?|private[_-]?key)"
_SECRET_NAME = re.compile(rf"(?:^|[^a-z]){_WORDS}(?:$|[^a-z])", re.IGNORECASE)
_PATTERNS = (
    # user:password@ and token@ of any URL; the host may follow any number of @ signs of the password
    (re.compile(r"(?P<keep>\b[a-zA-Z][a-zA-Z0-9+.-]*://)[^/\s?#'\"]*@"), rf"\g<keep>{REDACTED}@"),
    (
        re.compile(rf"(?P<keep>\b[\w-]*{_WORDS}['\"]?\s*[=:]\s*['\"]?)[^\s&,;'\"]+", re.IGNORECASE),
        rf"\g<keep>{REDACTED}",
    ),
    # access key ids, by their fixed prefixes
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), REDACTED),
    # 40 characters of base64 with upper case, lower case and a digit: an AWS secret key, and no hex digest
    (
        re.compile(
            r"(?<![A-Za-z0-9/+=])(?=[a-z0-9/+]*[A-Z])(?=[A-Z0-9/+]*[a-z])(?=[A-Za-z/+]*\d)"
            r"[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])"
        ),
        REDACTED,
    ),
)


def redact(text: str) -> str:
    """The text without passwords, tokens, access keys and the credentials of URLs."""
    for variable in _SECRET_VARIABLES:
        value = os.environ.get(variable, "")
        if len(value) >= 8:
            text = text.replace(value, REDACTED)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def redact_named(name: str, text: str) -> str:
    """Like `redact`, but of a parameter, whose name may already say that it holds a secret."""
    return REDACTED if _SECRET_NAME.search(name) else redact(text)
