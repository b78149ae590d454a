"""What a version must be before anything of it is loaded: ours, whole, and where the registry's artifacts are.

Nothing here loads a model, imports code that came with one, or goes through MLflow's own loading.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from windlass.errors import WindlassError
from windlass.registry.bundle import MLMODEL_NAME
from windlass.storage import Manifest, digest_file
from windlass.variants import VARIANT_NAME, open_variant

MAX_DOCUMENT_BYTES = 16 << 20
MAX_FILES = 64
_LOADER = "mlflow.onnx"
_FLAVORS = {"onnx", "python_function"}
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
_PICKLED = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib", ".dill", ".cloudpickle", ".py", ".so")


class UnsafeError(Exception):
    """Why a version is refused; the reader adds which one it is."""


class GoneError(UnsafeError):
    """A file that the registry knows of is not there."""


def check_source(source: str, roots: Iterable[str]) -> None:
    """A version's files must lie below one of the roots: same scheme, same host, no way around it."""
    address = urlsplit(source)
    path = _fully_unquoted(address.path)
    if ".." in path.replace("\\", "/").split("/") or "\x00" in path or address.query or address.fragment:
        raise UnsafeError(f"its source {source} climbs out of its folder")
    for root in roots:
        allowed = urlsplit(root)
        if (address.scheme.lower(), address.netloc) != (allowed.scheme.lower(), allowed.netloc):
            continue
        base = allowed.path.rstrip("/") + "/"
        if address.path.startswith(base) and len(address.path) > len(base):
            return
    raise UnsafeError(f"its source {source} is outside of {', '.join(roots) or 'every artifact root'}")


def check_listing(manifest: Manifest) -> None:
    """The files that a version says it has, before one of them is fetched."""
    if len(manifest.files) > MAX_FILES:
        raise UnsafeError(f"it has more than {MAX_FILES} files")
    for name, entry in manifest.files.items():
        check_file_name(name)
        if name.endswith((".json", MLMODEL_NAME)) and entry.size_bytes > MAX_DOCUMENT_BYTES:
            raise UnsafeError(f"{name} is larger than {MAX_DOCUMENT_BYTES:,} bytes")
    for name in (MLMODEL_NAME, VARIANT_NAME):
        if name not in manifest.files:
            raise UnsafeError(f"it has no {name}")


def check_file_name(name: str) -> None:
    if not _SAFE_NAME.fullmatch(name) or len(name) > 255:
        raise UnsafeError(f"it names a file {name[:80]!r}")
    if PurePosixPath(name).suffix.lower() in _PICKLED or name.split("/")[0] == "code":
        raise UnsafeError(f"it holds {name}, which could run code")


def check_mlmodel(path: Path) -> None:
    """Only the `onnx` flavor with MLflow's own loader, and no code beside it."""
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise UnsafeError(f"its MLmodel cannot be read ({type(error).__name__})") from error
    flavors = document.get("flavors") if isinstance(document, dict) else None
    if not isinstance(flavors, dict) or "onnx" not in flavors:
        found = ", ".join(map(str, flavors)) if isinstance(flavors, dict) else "none"
        raise UnsafeError(f"its flavor is not onnx but {found[:200]}")
    if unknown := set(flavors) - _FLAVORS:
        raise UnsafeError(f"its MLmodel has the flavor {', '.join(sorted(map(str, unknown)))[:200]}")
    for name, flavor in flavors.items():
        _check_flavor(str(name), flavor)


def _check_flavor(name: str, flavor: Any) -> None:
    if not isinstance(flavor, dict):
        raise UnsafeError(f"its flavor {name} is not a mapping")
    for key in ("code", "code_paths", "model_code_path", "python_model", "cloudpickle_version"):
        if flavor.get(key):
            raise UnsafeError(f"its flavor {name} has {key}, which would run code that came with it")
    if name == "python_function" and flavor.get("loader_module") != _LOADER:
        raise UnsafeError(f"its loader_module is {str(flavor.get('loader_module'))[:80]}, not {_LOADER}")


def read_manifest(path: Path, expected_digest: str | None) -> Manifest:
    """The manifest, checked against the digest that the registry has."""
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise UnsafeError(f"its manifest cannot be read: {error.errors()[0]['msg']}") from error
    if expected_digest is None or manifest.digest != expected_digest:
        raise UnsafeError("its manifest is not the one that was registered")
    return manifest


def check_files(directory: Path, manifest: Manifest) -> None:
    """Every file is what the manifest says, and the variant names no other."""
    for name, entry in manifest.files.items():
        path = directory / name
        if path.is_symlink() or not path.is_file():
            raise UnsafeError(f"{name} is missing")
        if path.stat().st_size != entry.size_bytes or digest_file(path) != entry.sha256:
            raise UnsafeError(f"{name} is not what was registered")


def check_variant(directory: Path) -> None:
    """The variant holds the files that it names, and its engine can load them without leaving the directory."""
    try:
        open_variant(directory)
    except WindlassError as error:
        raise UnsafeError(str(error)) from error


def _fully_unquoted(text: str) -> str:
    while (once := unquote(text)) != text:
        text = once
    return text
