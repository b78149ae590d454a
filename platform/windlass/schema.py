"""Base classes and value types of the recipe's sections and of the documents that steps exchange."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from windlass.errors import CorruptedError

_SIZE_FACTORS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_DURATION_FACTORS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


class Section(BaseModel):
    """A part of a recipe or of a document: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Document(Section):
    """A JSON file that one module writes and reads, checked on reading.

    Subclasses fix `format_version` with a `Literal`, so that a file of another version is refused.
    """

    format_version: int

    def write(self, path: Path) -> None:
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and check the document.

        Raises:
            CorruptedError: the file is absent, is not JSON, or is not of this form or version.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise CorruptedError(f"{path} is missing; run the step again that writes it") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            raise CorruptedError(f"{path} is not a {cls.__name__}: {where}: {first['msg']}") from error


def canonical_json(value: Any) -> bytes:
    """One byte string per value: sorted keys, no spaces, so that equal values have equal digests."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON value, as 64 hex digits."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def parse_size(value: object) -> object:
    """Bytes from what people write: `60KB` is 60,000, `60KiB` is 61,440, a plain number is bytes."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", value)
    if match is None or match[2].lower() not in _SIZE_FACTORS:
        raise ValueError("not a size; write it as 60KB, 1.5MB or 2GiB")
    return round(float(match[1]) * _SIZE_FACTORS[match[2].lower()])


def parse_duration(value: object) -> object:
    """Seconds from what people write: `90s`, `2h`, `1h30m`, `250ms`; a plain number is seconds."""
    if not isinstance(value, str):
        return value
    text = value.replace(" ", "").lower()
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|min|s|m|h|d)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError("not a duration; write it as 90s, 15m, 2h or 1h30m")
    return sum(float(number) * _DURATION_FACTORS[unit] for number, unit in parts)


def format_size(size_bytes: float) -> str:
    """`60.0 KB`, in decimal units, as people compare them with a budget."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes:.0f} B"


SizeBytes = Annotated[int, BeforeValidator(parse_size)]
DurationS = Annotated[float, BeforeValidator(parse_duration)]
