"""A model as it is served: its bundle, signature, golden examples and engines. Imports no torch."""

from windlass.variants._bundle import InvalidVariantError, open_variant
from windlass.variants.signature import ColumnSpec, Signature, TensorSpec
from windlass.variants.variant import (
    GOLDEN_NAME,
    IN_FP32_NOTE,
    SENSITIVITY_NOTE,
    VARIANT_NAME,
    GoldenExamples,
    Origin,
    Variant,
)

__all__ = [
    "GOLDEN_NAME",
    "IN_FP32_NOTE",
    "SENSITIVITY_NOTE",
    "VARIANT_NAME",
    "ColumnSpec",
    "GoldenExamples",
    "InvalidVariantError",
    "Origin",
    "Signature",
    "TensorSpec",
    "Variant",
    "open_variant",
]
