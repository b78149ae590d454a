"""Where data come from: a recipe's `data.source`, resolved to files with their digests."""

from __future__ import annotations

import glob
import hashlib
import io
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, Literal

from windlass.data.errors import BadFileError, SourceNotFoundError, UnknownSourceKindError, UnknownVariableError
from windlass.errors import MissingExtraError
from windlass.schema import Section, digest_of
from windlass.storage import digest_file

SourceKind = Literal["csv", "parquet", "jsonl", "idx", "folder", "sklearn"]
SKLEARN_TABLES = ("breast_cancer", "wine", "diabetes")
SKLEARN_IMAGES = ("digits",)
_SUFFIXES: dict[str, SourceKind] = {
    ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".pq": "parquet",
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl",
}  # fmt: skip
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_IDX_NAME = re.compile(r"[-.]idx[1-4]-ubyte$|\.idx$|\.idx[1-4]$")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_CHUNK_BYTES = 1 << 20
_PATIENT_ATTEMPTS = 14
"""About 150 s on the average, which is how long requests of `windlass.storage` may keep failing."""
_FIRST_ATTEMPTS = 3
"""Where a mistyped address is more likely than a store that is away."""


class SourceFile(Section):
    """One file; `name` is its path inside the source, `uri` a local path or `s3://bucket/key`."""

    name: str
    uri: str
    size_bytes: int
    sha256: str


class ResolvedSource(Section):
    """What `data.source` meant on this machine at this time. `files` are ordered by name."""

    kind: SourceKind
    files: tuple[SourceFile, ...] = ()
    dataset: str | None = None
    """The name after `sklearn:`, which has no files."""
    version: str | None = None
    """Of scikit-learn, which brings that dataset."""

    @property
    def digest(self) -> str:
        """Of the content, wherever it lies; of a folder also the names, for they are the labels."""
        if self.kind == "sklearn":
            return digest_of({"kind": self.kind, "dataset": self.dataset, "version": self.version})
        named = self.kind == "folder"
        return digest_of({"kind": self.kind, "files": [[f.name if named else "", f.sha256] for f in self.files]})


def resolve_source(source: str | tuple[str, ...], base_directory: Path) -> ResolvedSource:
    """Find the files of a source, read them once for their digests, and tell their kind.

    Args:
        source: as the recipe has it; `${NAME}` is an environment variable.
        base_directory: where relative paths start.

    Raises:
        DataError: a variable is not set, nothing lies there, or the files are of no or of several kinds.
    """
    shown = source if isinstance(source, str) else ", ".join(source)
    if isinstance(source, str) and source.startswith("sklearn:"):
        return _resolve_sklearn(source)
    found: dict[str, str] = {}
    for part in (source,) if isinstance(source, str) else source:
        expanded = _expand(part)
        found |= (
            _list_s3(expanded, part) if expanded.startswith("s3://") else _list_local(expanded, part, base_directory)
        )
    kind = _kind_of(found, shown)
    return ResolvedSource(kind=kind, files=tuple(_describe(name, found[name]) for name in sorted(found)))


def open_source(uri: str) -> IO[bytes]:
    """A readable binary stream of a source file, local or on S3."""
    if uri.startswith("s3://"):
        return io.BufferedReader(s3_filesystem().open_input_file(uri.removeprefix("s3://")))
    return Path(uri).open("rb")


def s3_filesystem(max_attempts: int = _PATIENT_ATTEMPTS) -> Any:
    """A `pyarrow.fs.S3FileSystem` with the endpoint and the region of the usual AWS variables.

    Args:
        max_attempts: of each request that fails as it may once; between them it waits, at last for up to 20 s.
    """
    try:
        from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem
    except ImportError:
        raise MissingExtraError("reading data from S3", "train") from None
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    settings: dict[str, Any] = {"retry_strategy": AwsStandardS3RetryStrategy(max_attempts=max_attempts)}
    if endpoint:
        return S3FileSystem(endpoint_override=endpoint, region=region or "us-east-1", **settings)
    return S3FileSystem(region=region, **settings) if region else S3FileSystem(**settings)


def _resolve_sklearn(source: str) -> ResolvedSource:
    name = source.removeprefix("sklearn:")
    known = (*SKLEARN_IMAGES, *SKLEARN_TABLES)
    if name not in known:
        raise UnknownSourceKindError(source, f"scikit-learn's {name!r} is not known here; choose {', '.join(known)}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return ResolvedSource(kind="sklearn", dataset=name, version=version("scikit-learn"))
    except PackageNotFoundError:
        raise MissingExtraError(f"the source {source}", "train") from None


def _expand(source: str) -> str:
    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise UnknownVariableError(source, match[1])
        return os.environ[match[1]]

    return _VARIABLE.sub(value, source)


def _list_local(expanded: str, source: str, base_directory: Path) -> dict[str, str]:
    path = base_directory / Path(expanded).expanduser()
    if path.is_file():
        return {path.name: str(path.resolve())}
    if path.is_dir():
        return _named((file for file in path.rglob("*") if file.is_file()), path, source)
    if glob.has_magic(str(path)):
        parts = path.parts
        fixed = Path(*parts[: next(i for i, part in enumerate(parts) if glob.has_magic(part))])
        matches = fixed.glob("/".join(parts[len(fixed.parts) :]))
        return _named((match for match in matches if match.is_file()), fixed, source)
    raise SourceNotFoundError(source, str(path))


def _named(files: Iterable[Path], directory: Path, source: str) -> dict[str, str]:
    names = {file.relative_to(directory).as_posix(): str(file.resolve()) for file in files}
    visible = {name: uri for name, uri in names.items() if not any(part.startswith(".") for part in name.split("/"))}
    if not visible:
        raise SourceNotFoundError(source, str(directory))
    return visible


def _list_s3(uri: str, source: str) -> dict[str, str]:
    from pyarrow.fs import FileSelector, FileType

    prefix = uri.removeprefix("s3://").rstrip("/")
    filesystem = s3_filesystem(_FIRST_ATTEMPTS)
    try:
        info = filesystem.get_file_info(prefix)
        if info.type == FileType.File:
            return {prefix.rsplit("/", 1)[-1]: f"s3://{prefix}"}
        infos = filesystem.get_file_info(FileSelector(prefix, recursive=True, allow_not_found=True))
    except OSError as error:
        raise BadFileError(source, f"the object store does not answer as it should: {error}") from error
    files = {i.path[len(prefix) + 1 :]: f"s3://{i.path}" for i in infos if i.type == FileType.File and i.size > 0}
    if not files:
        raise SourceNotFoundError(source, uri)
    return files


def _kind_of(names: Iterable[str], source: str) -> SourceKind:
    kinds = {name: _kind_of_name(name) for name in names}
    distinct = set(kinds.values())
    if None in distinct:
        unknown = next(name for name, kind in kinds.items() if kind is None)
        raise UnknownSourceKindError(source, f"the kind of {unknown!r} is not known")
    if len(distinct) > 1:
        raise UnknownSourceKindError(source, f"files of several kinds: {', '.join(sorted(map(str, distinct)))}")
    (kind,) = distinct
    if kind == "idx" and len(kinds) != 2:
        raise UnknownSourceKindError(source, f"an IDX source is two files, images and labels, not {len(kinds)}")
    assert kind is not None
    return kind


def _kind_of_name(name: str) -> SourceKind | None:
    plain = name.lower().removesuffix(".gz")
    if _IDX_NAME.search(plain):
        return "idx"
    if plain.endswith(_IMAGE_SUFFIXES):
        return "folder"
    return _SUFFIXES.get(Path(plain).suffix)


def _describe(name: str, uri: str) -> SourceFile:
    if not uri.startswith("s3://"):
        return SourceFile(name=name, uri=uri, size_bytes=Path(uri).stat().st_size, sha256=digest_file(Path(uri)))
    digest, size_bytes = hashlib.sha256(), 0
    with open_source(uri) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
            size_bytes += len(chunk)
    return SourceFile(name=name, uri=uri, size_bytes=size_bytes, sha256=digest.hexdigest())
