"""Tracking and model versions in MLflow."""

from windlass.registry.comparing import VersionComparison, compare_versions
from windlass.registry.errors import (
    AliasNotFoundError,
    CandidateNotFoundError,
    FamilyGoneError,
    InvalidModelNameError,
    InvalidVersionError,
    ModelNotFoundError,
    NoFamilyError,
    NothingToGoBackToError,
    RegistryError,
    RegistryRefusedError,
    RegistryUnreachableError,
    UnsafeVersionError,
    VersionNotFoundError,
)
from windlass.registry.family import Family, FamilyMember, KeptCandidate
from windlass.registry.mirror import MetricsMirror
from windlass.registry.promoting import Promotion, Rollback, promote, registered_as, rollback
from windlass.registry.reader import ModelInfo, ModelVersion, Registry, TrackedRun, VersionInfo
from windlass.registry.redaction import redact
from windlass.registry.registering import register
from windlass.registry.tracking import default_tracking_uri

__all__ = [
    "AliasNotFoundError",
    "CandidateNotFoundError",
    "Family",
    "FamilyGoneError",
    "FamilyMember",
    "InvalidModelNameError",
    "InvalidVersionError",
    "KeptCandidate",
    "MetricsMirror",
    "ModelInfo",
    "ModelNotFoundError",
    "ModelVersion",
    "NoFamilyError",
    "NothingToGoBackToError",
    "Promotion",
    "Registry",
    "RegistryError",
    "RegistryRefusedError",
    "RegistryUnreachableError",
    "Rollback",
    "TrackedRun",
    "UnsafeVersionError",
    "VersionComparison",
    "VersionInfo",
    "VersionNotFoundError",
    "compare_versions",
    "default_tracking_uri",
    "promote",
    "redact",
    "register",
    "registered_as",
    "rollback",
]
