"""What can go wrong with storage, each with its cause and what to do next."""

from __future__ import annotations

from pathlib import Path

from windlass.errors import CorruptedError, InvalidInputError, WindlassError


class InvalidRootError(InvalidInputError):
    """The place for results is written in a form that is not understood."""

    def __init__(self, root: str) -> None:
        super().__init__(
            f"{root!r} is no place for results; give a local directory such as .windlass, or s3://BUCKET/PREFIX"
        )
        self.root = root


class InvalidNameError(InvalidInputError):
    """A name would lead out of its folder."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name!r} cannot name something here; use a relative path of plain names, such as runs/7/run.json"
        )
        self.name = name


class InvalidEndpointError(InvalidInputError):
    """The address of the object store is not a URL."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(
            f"{endpoint!r} is no address of an object store; set AWS_ENDPOINT_URL to one such as http://127.0.0.1:9000"
        )
        self.endpoint = endpoint


class InvalidSettingError(InvalidInputError):
    """An environment variable about the object store is not understood."""

    def __init__(self, variable: str, value: str, problem: str) -> None:
        super().__init__(f"{variable}={value!r} is not understood ({problem}); correct or unset it")
        self.variable, self.value = variable, value


class NotPublishedHereError(InvalidInputError):
    """Only what lies below the root may be removed."""

    def __init__(self, uri: str, root: str) -> None:
        super().__init__(f"{uri} does not lie below {root}; nothing was removed")
        self.uri, self.root = uri, root


class InputNotFoundError(InvalidInputError):
    """The file or directory to publish is not there, or is empty."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"there is no file to publish at {path}; check the path in the recipe")
        self.path = path


class ReservedNameError(InvalidInputError):
    """A user's directory holds a file with the name of our manifest."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} has a name that Windlass needs for itself; rename that file and run again")
        self.path = path


class InputChangedError(InvalidInputError):
    """A file was written to while it was being published."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} changed while it was being published; run again when nothing writes to it")
        self.path = path


class StorageFullError(WindlassError):
    """The disk has no room left."""

    def __init__(self, path: str) -> None:
        super().__init__(f"no space left on the disk of {path}; nothing was published: free some space and run again")
        self.path = path


class WrongResultError(CorruptedError):
    """A published directory holds something else than what a reference names."""

    def __init__(self, uri: str) -> None:
        super().__init__(f"{uri} holds another result than the one that was asked for; run again to make it anew")
        self.uri = uri


class ObjectCorruptedError(CorruptedError):
    """A published file is not what its manifest says."""

    def __init__(self, name: str, directory: str, problem: str) -> None:
        super().__init__(f"{directory}/{name} is not what was published ({problem}); delete {directory} and run again")
        self.name, self.directory = name, directory


class StorageUnreachableError(WindlassError):
    """The object store did not answer, however often it was asked."""

    def __init__(self, endpoint: str, action: str, waited_s: float, cause: str) -> None:
        super().__init__(
            f"{endpoint} did not answer within {waited_s:.0f} s while {action} ({cause}); "
            "what was made is kept on this machine: run the same command again when the store is back"
        )
        self.endpoint, self.action, self.waited_s = endpoint, action, waited_s


class BucketNotFoundError(InvalidInputError):
    """The bucket does not exist."""

    def __init__(self, bucket: str, endpoint: str) -> None:
        super().__init__(
            f"there is no bucket {bucket!r} at {endpoint}; create it, or give another s3://BUCKET/PREFIX, and run again"
        )
        self.bucket, self.endpoint = bucket, endpoint


class StorageAccessError(WindlassError):
    """The object store refuses these credentials, or there are none."""

    def __init__(self, endpoint: str, action: str, cause: str) -> None:
        super().__init__(
            f"{endpoint} does not allow {action} ({cause}); check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, "
            "AWS_SESSION_TOKEN and what they are allowed to do, then run again"
        )
        self.endpoint, self.action, self.cause = endpoint, action, cause


class StorageRequestError(WindlassError):
    """The object store refused a request for a reason that asking again does not change."""

    def __init__(self, endpoint: str, action: str, cause: str) -> None:
        super().__init__(f"{endpoint} refused {action}: {cause}; see the log of that server, then run again")
        self.endpoint, self.action, self.cause = endpoint, action, cause
