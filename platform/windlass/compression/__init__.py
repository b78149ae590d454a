"""Candidates from a trained model, each in the form in which it is served.

Importing this package is cheap: torch and ONNX are imported when a candidate is made.
"""

from windlass.compression.errors import ExportError, NameCollisionError
from windlass.compression.make import make_variant, plan

__all__ = ["ExportError", "NameCollisionError", "make_variant", "plan"]
