"""Architectures by name, a user's own module, and a model's files: safetensors and JSON.

Importing this package is cheap: torch is imported when a network is built.
"""

from __future__ import annotations

from windlass.models._files import build, load, save
from windlass.models._resolve import check_parameters, make_spec, resolve_parameters
from windlass.models.errors import InvalidModelError, InvalidModuleError

__all__ = [
    "InvalidModelError",
    "InvalidModuleError",
    "build",
    "check_parameters",
    "load",
    "make_spec",
    "resolve_parameters",
    "save",
]
