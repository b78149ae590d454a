"""Published directories on a local disk or an object store: atomic, verified, found again by key."""

from windlass.storage._errors import (
    BucketNotFoundError,
    InputChangedError,
    InputNotFoundError,
    InvalidEndpointError,
    InvalidNameError,
    InvalidRootError,
    InvalidSettingError,
    NotPublishedHereError,
    ObjectCorruptedError,
    ReservedNameError,
    StorageAccessError,
    StorageFullError,
    StorageRequestError,
    StorageUnreachableError,
    WrongResultError,
)
from windlass.storage._flush import flush, flush_tree
from windlass.storage._manifest import (
    MANIFEST_NAME,
    FileEntry,
    Manifest,
    Reference,
    StoredFile,
    describe_directory,
    digest_file,
)
from windlass.storage._s3_settings import S3Settings
from windlass.storage._workspace import Workspace

__all__ = [
    "MANIFEST_NAME",
    "BucketNotFoundError",
    "FileEntry",
    "InputChangedError",
    "InputNotFoundError",
    "InvalidEndpointError",
    "InvalidNameError",
    "InvalidRootError",
    "InvalidSettingError",
    "Manifest",
    "NotPublishedHereError",
    "ObjectCorruptedError",
    "Reference",
    "ReservedNameError",
    "S3Settings",
    "StorageAccessError",
    "StorageFullError",
    "StorageRequestError",
    "StorageUnreachableError",
    "StoredFile",
    "Workspace",
    "WrongResultError",
    "describe_directory",
    "digest_file",
    "flush",
    "flush_tree",
]
