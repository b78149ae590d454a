"""Opening a variant's directory: nothing in it is believed before it is checked."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from windlass.errors import CorruptedError
from windlass.variants.signature import Signature
from windlass.variants.variant import VARIANT_NAME, Variant

_MAX_DOCUMENT_BYTES = 16 << 20
_MAX_NAME_LENGTH = 255


class InvalidVariantError(CorruptedError):
    """A directory is not a variant that may be loaded."""

    def __init__(self, directory: Path, problem: str) -> None:
        super().__init__(f"the variant in {directory} is refused: {problem}; register the model again from its run")
        self.directory, self.problem = directory, problem


def open_variant(directory: Path) -> Variant:
    """Read and check `variant.json` and that the files it names are plain files inside the directory.

    The model itself is checked by the engine that loads it.

    Raises:
        CorruptedError: variant.json is absent, or is not of this form or version.
        InvalidVariantError: a file is missing, is a link, or has a name that leads elsewhere; the signature
            contradicts itself.
    """
    document = directory / VARIANT_NAME
    if document.is_symlink():
        raise InvalidVariantError(directory, f"{VARIANT_NAME} is a link")
    if document.is_file() and document.stat().st_size > _MAX_DOCUMENT_BYTES:
        raise InvalidVariantError(directory, f"{VARIANT_NAME} is larger than {_MAX_DOCUMENT_BYTES:,} bytes")
    variant = Variant.read(document)
    if len(variant.files) != 1 or not variant.files[0].endswith(".onnx"):
        raise InvalidVariantError(directory, "a variant in the format onnx has exactly one file, named *.onnx")
    for name in variant.files:
        _check_file(directory, name)
    _check_signature(directory, variant.signature)
    return variant


def _check_file(directory: Path, name: str) -> None:
    parts = name.split("/")
    plain = name.isprintable() and "\\" not in name and ":" not in name and len(name) <= _MAX_NAME_LENGTH
    if not plain or PurePosixPath(name).is_absolute() or any(part in ("", ".", "..") for part in parts):
        raise InvalidVariantError(directory, f"the file name {name!r} is not a plain relative name")
    path = directory
    for part in parts:
        path = path / part
        if path.is_symlink():
            raise InvalidVariantError(directory, f"{name} is reached through a link")
    if not path.is_file():
        raise InvalidVariantError(directory, f"the file {name} is missing")


def _check_signature(directory: Path, signature: Signature) -> None:
    problem = signature.problem()
    if problem is not None:
        raise InvalidVariantError(directory, f"in its signature {problem}")
