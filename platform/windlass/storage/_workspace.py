"""Where a run keeps its results.

- `<root>/steps/<step>/<step_key>/`: what a step published.
- `<root>/inputs/<sha256>/`: local data and modules that a recipe names.
- `<root>/runs/<run_id>/`: what happened: the resolved recipe, each step's reference.
- `<local>/work/<step>/<step_key>/`: a step's unfinished work (checkpoints), kept for its rerun.
- `<local>/locks/` and `<local>/tmp/`: never read by another machine.
"""

from __future__ import annotations

import fcntl
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from windlass.errors import CorruptedError
from windlass.storage._manifest import MANIFEST_NAME, Manifest, Reference, describe_directory, digest_file


class Workspace:
    """A root for results and a local directory for what only this machine needs."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.local = self.root

    def find(self, step: str, key: str) -> Reference | None:
        """The result that is published under this key, if there is one."""
        directory = self._step_directory(step, key)
        if not (directory / MANIFEST_NAME).is_file():
            return None
        return Reference(uri=str(directory), digest=Manifest.read(directory / MANIFEST_NAME).digest)

    def once(self, step: str, key: str, make: Callable[[Path], None]) -> tuple[Reference, bool]:
        """Publish what `make` writes into the directory that it is given, unless it is published already.

        A second process that asks for the same key waits for the first and takes its result.

        Returns:
            The published result, and whether it was there before.
        """
        with self._locked(f"{step}-{key}"):
            if (found := self.find(step, key)) is not None:
                return found, True
            directory = self.local / "tmp" / uuid.uuid4().hex
            directory.mkdir(parents=True)
            try:
                make(directory)
                return self._publish(directory, self._step_directory(step, key)), False
            finally:
                shutil.rmtree(directory, ignore_errors=True)

    def fetch(self, reference: Reference) -> Path:
        """A local directory with the published files, their digests verified.

        Raises:
            CorruptedError: a file is missing or is not what was published.
        """
        directory = Path(reference.uri)
        manifest = Manifest.read(directory / MANIFEST_NAME)
        if manifest.digest != reference.digest:
            raise CorruptedError(f"{directory} holds another result than the one that was asked for")
        for name, entry in manifest.files.items():
            path = directory / name
            if not path.is_file() or path.stat().st_size != entry.size_bytes or digest_file(path) != entry.sha256:
                raise CorruptedError(f"{path} is not what was published; delete {directory} and run again")
        return directory

    def work_directory(self, step: str, key: str) -> Path:
        """A step's own directory for unfinished work, kept until the step has published."""
        directory = self.local / "work" / step / key
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def _step_directory(self, step: str, key: str) -> Path:
        return self.root / "steps" / step / key

    def _publish(self, source: Path, target: Path) -> Reference:
        manifest = describe_directory(source)
        manifest.write(source / MANIFEST_NAME)
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
        return Reference(uri=str(target), digest=manifest.digest)

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        path = self.local / "locks" / f"{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
