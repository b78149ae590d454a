"""Published directories on a local disk or an object store: atomic, verified, found again by key."""

from windlass.storage._manifest import MANIFEST_NAME, FileEntry, Manifest, Reference, describe_directory, digest_file
from windlass.storage._workspace import Workspace

__all__ = [
    "MANIFEST_NAME",
    "FileEntry",
    "Manifest",
    "Reference",
    "Workspace",
    "describe_directory",
    "digest_file",
]
