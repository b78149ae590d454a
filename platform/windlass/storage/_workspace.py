"""Where a run keeps its results.

- `<root>/steps/<step>/<step_key>/`: what a step published.
- `<root>/inputs/<sha256>/`: local data and modules that a recipe names.
- `<root>/runs/<run_id>/`: what happened: the resolved recipe, each step's reference.
- `<root>/jobs/train/<step_key>/`: what the pods of a training are told, and whether a restart would help.
- `<root>/work/train/<step_key>/`: checkpoints of workers that share no disk, removed when the step has published.
- `<local>/work/<step>/<step_key>/`: a step's unfinished work (checkpoints), kept until it has published.
- `<local>/outgoing/`: what was made and is not yet on the object store; a rerun uploads it.
- `<local>/cache/<digest>/`: copies of what lies on an object store.
- `<local>/locks/` and `<local>/tmp/`: never read by another machine.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Protocol

from windlass.storage._local import LocalStore, locked, locked_at_once
from windlass.storage._manifest import (
    MANIFEST_NAME,
    Manifest,
    Reference,
    StoredFile,
    check_name,
    describe_directory,
    describe_input,
)
from windlass.storage._s3_settings import S3Settings
from windlass.storage._s3_store import S3Store

_DEFAULT_LOCAL = Path(".windlass")


class Store(Protocol):
    """A place for results: `LocalStore` or `S3Store`."""

    uri: str

    def find(self, name: str) -> Reference | None: ...
    def touch(self, name: str) -> None: ...
    def list_files(self, prefix: str) -> list[StoredFile]: ...
    def make(self, name: str, make: Callable[[Path], None]) -> tuple[Reference, bool]: ...
    def publish_files(self, source: Path, manifest: Manifest, name: str) -> Reference: ...
    def fetch(self, reference: Reference) -> Path: ...
    def locate(self, reference: Reference) -> dict[str, str]: ...
    def write_document(self, name: str, data: bytes, *, if_absent: bool) -> bool: ...
    def read_document(self, name: str) -> bytes | None: ...
    def list_documents(self, prefix: str) -> list[str]: ...
    def delete_document(self, name: str) -> None: ...
    def remove(self, reference: Reference, head: str = MANIFEST_NAME) -> None: ...


class Workspace:
    """A root for results and a local directory for what only this machine needs.

    Args:
        root: a directory, or `s3://bucket/prefix`.
        local: locks, unfinished work and copies; the root itself if that is a directory, else `.windlass`.
        s3: how to reach the object store; what the environment says if left out.

    Raises:
        InvalidRootError: the root is neither a path nor `s3://bucket[/prefix]`.
    """

    def __init__(self, root: str | Path, local: Path | None = None, *, s3: S3Settings | None = None) -> None:
        self._s3 = s3
        if "://" in str(root):
            self.local = (local or _DEFAULT_LOCAL).resolve()
            self._store: Store = S3Store(str(root), self.local, s3)
        else:
            self._store = LocalStore(Path(root).resolve())
            self.local = local.resolve() if local else Path(root).resolve()

    @property
    def uri(self) -> str:
        """The root as one writes it: an absolute path, or `s3://bucket/prefix`."""
        return self._store.uri

    def find(self, step: str, key: str) -> Reference | None:
        """The result that is published under this key, if there is one; it counts as used now."""
        return self._found(f"steps/{step}/{key}")

    def _found(self, name: str) -> Reference | None:
        if (found := self._store.find(name)) is not None:
            self._store.touch(name)
        return found

    def once(self, step: str, key: str, make: Callable[[Path], None]) -> tuple[Reference, bool]:
        """Publish what `make` writes into the directory that it is given, unless it is published already.

        A second process that asks for the same key waits for the first and takes its result; of two machines that
        make the same at once, the first to publish wins, and both take its result.

        Returns:
            The published result, and whether it was there before: made by an earlier run or by another process.

        Raises:
            StorageFullError: the disk is full; nothing is published.
            StorageUnreachableError: the object store stayed away; the result is kept and a rerun uploads it.
        """
        with locked(self.local / "locks" / f"{step}-{key}.lock", f"making {step} of this run"):
            reference, made = self.find(step, key), False
            if reference is None:
                reference, made = self._store.make(f"steps/{step}/{key}", make)
            for unfinished in ("work", "outgoing/steps"):
                shutil.rmtree(self.local / unfinished / step / key, ignore_errors=True)
            return reference, not made

    def fetch(self, reference: Reference) -> Path:
        """A local directory with the published files, their digests verified.

        Raises:
            ObjectCorruptedError: a file is missing or is not what was published.
            WrongResultError: something else is published there.
            StorageUnreachableError: the object store stayed away.
        """
        if not reference.uri.startswith("s3://"):
            return LocalStore(Path(reference.uri).parent).fetch(reference)
        if isinstance(self._store, S3Store) and reference.uri.startswith(f"{self.uri}/"):
            return self._store.fetch(reference)
        return S3Store(reference.uri, self.local, self._s3).fetch(reference)

    def work_directory(self, step: str, key: str) -> Path:
        """A step's own directory for unfinished work, removed when the step has published."""
        directory = self.local / "work" / step / key
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def locate(self, reference: Reference) -> dict[str, str]:
        """Where each published file lies, by its name, for those who read a part of it or stream it, unverified.

        Raises:
            ObjectCorruptedError, WrongResultError: as of `fetch`.
        """
        return self._store.locate(reference)

    def put_input(self, path: Path, names: Collection[str] | None = None) -> Reference:
        """Publish a file, or the files of a directory, below `inputs/` under the digest of what it holds.

        A local root keeps a copy: what a recorded run names by digest must not change when the user edits the file.

        Args:
            names: of the files in the directory; all of them if left out.

        Raises:
            InputNotFoundError: there is no file.
            ReservedNameError: a file is called manifest.json.
            InputChangedError: something wrote to it meanwhile.
        """
        path = path.absolute()
        manifest = describe_input(path, names)
        name = f"inputs/{manifest.digest}"
        with locked(self.local / "locks" / f"inputs-{manifest.digest}.lock", f"publishing {path.name}"):
            if (found := self._found(name)) is not None:
                return found
            return self._store.publish_files(path if path.is_dir() else path.parent, manifest, name)

    def publish(self, name: str, directory: Path) -> Reference:
        """Publish the files of a directory under a name below the root, such as `work/train/<key>/<part>`.

        The first one to publish a name wins; the directory itself stays as it is.
        """
        return self._store.publish_files(directory, describe_directory(directory), check_name(name))

    def write_document(self, name: str, data: bytes, *, if_absent: bool = False) -> bool:
        """Write a small file below the root, all of it or nothing.

        Returns:
            Whether it was written: not when `if_absent` is set and another one is there.
        """
        return self._store.write_document(check_name(name), data, if_absent=if_absent)

    def read_document(self, name: str) -> bytes | None:
        """A small file below the root; None if there is none."""
        return self._store.read_document(check_name(name))

    def list_documents(self, prefix: str) -> list[str]:
        """Names below the root that begin with `prefix`, sorted: `runs/<run_id>/` lists one run."""
        return self._store.list_documents(prefix)

    def delete_document(self, name: str) -> None:
        """Delete a small file; nothing happens if there is none."""
        self._store.delete_document(check_name(name))

    def remove(self, reference: Reference) -> None:
        """Unpublish: readers see all of it or nothing.

        Raises:
            NotPublishedHereError: it lies elsewhere.
        """
        self._store.remove(reference)

    def list_files(self, prefix: str) -> list[StoredFile]:
        """What lies below a folder of the root, with sizes and times, whether it is published or not.

        Args:
            prefix: a path below the root that ends with a slash: `steps/`.
        """
        return self._store.list_files(prefix)

    def remove_unused(self, name: str, since_s: float, *, head: str = MANIFEST_NAME) -> bool:
        """Remove a folder below the root, unless somebody has made or used it since a time, or is about to.

        What readers look for goes first, so that none sees a part. On one machine this excludes whoever makes or takes
        a result. On an object store another machine may take it in the moment between the look and the removal; its
        run then says that the result is gone, and makes it anew when it is run again.

        Args:
            name: such as `steps/train/<key>`, `inputs/<digest>` or `work/train/<key>`.
            since_s: seconds since 1970; what was last used at just that time is removed.
            head: the file without which the folder does not exist for readers.

        Returns:
            Whether it was removed.
        """
        lock = self.local / "locks" / f"{'-'.join(check_name(name).split('/')[-2:])}.lock"
        with locked_at_once(lock) as free:
            if not free or any(file.modified_s > since_s for file in self._store.list_files(f"{name}/")):
                return False
            reference = self._store.find(name) or Reference(uri=f"{self.uri}/{name}", digest="unpublished")
            self._store.remove(reference, head)
        return True
