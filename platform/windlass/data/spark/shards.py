"""Shards that many tasks write: each under its partition and attempt, of which the driver takes those that won."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from windlass.data.bundle import Written, write_shards
from windlass.data.description import SPLITS, SplitName
from windlass.data.sources import s3_filesystem
from windlass.data.spark.buckets import Buckets
from windlass.storage import Reference, Workspace

if TYPE_CHECKING:
    import pyarrow as pa

_CHUNK_BYTES = 8 << 20
_BATCH_ROWS = 50_000


@dataclass(frozen=True)
class ShardsOfTask:
    """What one attempt of a task has written, by split."""

    partition: int
    folder: str
    written: Written


@dataclass(frozen=True)
class ShardWriter:
    """A task that writes the rows of its bucket, and says which shards it wrote.

    A task that is repeated writes to another folder; Spark hands on what one attempt says.
    """

    place: str
    buckets: Buckets
    query: str
    schema: pa.Schema
    num_classes: int | None

    def __call__(self, blocks: Iterable[tuple[int, bytes]]) -> Iterator[ShardsOfTask]:
        from pyspark import TaskContext

        context = TaskContext.get()
        assert context is not None
        folder = f"part-{context.partitionId():05d}-{context.taskAttemptId()}"
        is_remote = self.place.startswith("s3://")
        with (
            tempfile.TemporaryDirectory(prefix="shards-", dir=None if is_remote else self.place) as room,
            self.buckets.read(blocks, self.query) as engine,
        ):
            rows = engine.stream(self.query, _BATCH_ROWS)
            written = write_shards(rows, Path(room), self.schema, self.num_classes)
            if is_remote:
                _upload(Path(room), f"{self.place}/{folder}")
            else:
                Path(room).rename(Path(self.place, folder))
                Path(room).mkdir()
        yield ShardsOfTask(context.partitionId(), folder, written)


def collect_shards(tasks: Sequence[ShardsOfTask], place: str, output: Path, num_classes: int | None) -> Written:
    """Bring the shards of the attempts that won into `output`, numbered in the order of their rows."""
    shards: dict[SplitName, list[str]] = {split: [] for split in SPLITS}
    rows = dict.fromkeys(SPLITS, 0)
    counts = {split: [0] * (num_classes or 0) for split in SPLITS}
    for task in sorted(tasks, key=lambda each: each.partition):
        for split in SPLITS:
            for written in task.written.shards[split]:
                name = f"{split}-{len(shards[split]):05d}.parquet"
                _take(f"{place}/{task.folder}/{written}", output / name)
                shards[split].append(name)
            rows[split] += task.written.rows[split]
            for index, count in enumerate((task.written.class_counts or {}).get(split, ())):
                counts[split][index] += count
    _clear(place)
    classes = {split: tuple(found) for split, found in counts.items()}
    taken = {split: tuple(names) for split, names in shards.items()}
    return Written(taken, rows, None if num_classes is None else classes)


def _clear(place: str) -> None:
    """Remove the folders of all attempts, of those that lost too."""
    if place.startswith("s3://"):
        # pyarrow would leave an empty object in the place of the folder
        root, _, name = place.rpartition("/")
        Workspace(root).remove(Reference(uri=f"{root}/{name}", digest="unpublished"))
        return
    for folder in Path(place).glob("part-*"):
        shutil.rmtree(folder)


def _upload(directory: Path, place: str) -> None:
    filesystem = s3_filesystem()
    for path in sorted(directory.iterdir()):
        with path.open("rb") as source, filesystem.open_output_stream(f"{place[5:]}/{path.name}") as target:
            shutil.copyfileobj(source, target, _CHUNK_BYTES)


def _take(uri: str, path: Path) -> None:
    if not uri.startswith("s3://"):
        Path(uri).rename(path)
        return
    with s3_filesystem().open_input_stream(uri.removeprefix("s3://")) as source, path.open("wb") as target:
        shutil.copyfileobj(source, target, _CHUNK_BYTES)
