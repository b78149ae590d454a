"""Tracking and model versions in MLflow."""

from windlass.registry.errors import (
    AliasNotFoundError,
    InvalidModelNameError,
    InvalidVersionError,
    ModelNotFoundError,
    RegistryError,
    RegistryRefusedError,
    RegistryUnreachableError,
    UnsafeVersionError,
    VersionNotFoundError,
)
from windlass.registry.mirror import MetricsMirror
from windlass.registry.reader import ModelInfo, ModelVersion, Registry, VersionInfo
from windlass.registry.redaction import redact
from windlass.registry.registering import FamilyMember, register
from windlass.registry.tracking import default_tracking_uri

__all__ = [
    "AliasNotFoundError",
    "FamilyMember",
    "InvalidModelNameError",
    "InvalidVersionError",
    "MetricsMirror",
    "ModelInfo",
    "ModelNotFoundError",
    "ModelVersion",
    "Registry",
    "RegistryError",
    "RegistryRefusedError",
    "RegistryUnreachableError",
    "UnsafeVersionError",
    "VersionInfo",
    "VersionNotFoundError",
    "default_tracking_uri",
    "redact",
    "register",
]
