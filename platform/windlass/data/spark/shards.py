"""Shards that many tasks write: each under its partition and attempt, of which the driver takes those that won."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windlass.data.bundle import Written, write_shards
from windlass.data.description import SPLITS, SplitName
from windlass.data.duckdb_engine import DuckDBEngine
from windlass.data.sources import s3_filesystem
from windlass.data.spark.blocks import unpack
from windlass.storage import Reference, Workspace

if TYPE_CHECKING:
    import pyarrow as pa

_CHUNK_BYTES = 8 << 20
_BATCH_ROWS = 50_000


@dataclass(frozen=True)
class BucketQuery:
    """A query over the rows of one bucket, which DuckDB runs as it does over a whole table."""

    staged: str
    """The relation of the rows."""
    schema: pa.Schema
    kept: Mapping[str, str]
    """Queries by the names under which the others ask for them, in this order."""
    query: str
    memory_bytes: int
    directory: str | None
    """For what does not fit into memory; None: the machine's own."""

    def stream(self, blocks: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        with tempfile.TemporaryDirectory(prefix="task-", dir=self.directory) as directory:
            engine = DuckDBEngine(Path(directory), memory_limit_bytes=self.memory_bytes, threads=1)
            try:
                engine.load(self.staged, pa.RecordBatchReader.from_batches(self.schema, unpack(blocks)))
                for name, query in self.kept.items():
                    engine.keep(name, query)
                yield from engine.stream(self.query, _BATCH_ROWS)
            finally:
                engine.close()


class ShardWriter:
    """A task of `mapInArrow`: writes the rows of its bucket, and replies with one row a shard.

    A task that is repeated writes to another folder; Spark hands on the reply of one attempt only.
    """

    REPLY = "partition int, folder string, split string, name string, rows bigint, class_counts array<bigint>"

    def __init__(self, place: str, bucket: BucketQuery, schema: pa.Schema, num_classes: int | None) -> None:
        self.place, self._bucket, self._schema, self._num_classes = place, bucket, schema, num_classes

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa
        from pyspark import TaskContext

        context = TaskContext.get()
        assert context is not None
        folder = f"part-{context.partitionId():05d}-{context.taskAttemptId()}"
        is_remote = self.place.startswith("s3://")
        with tempfile.TemporaryDirectory(prefix="shards-", dir=None if is_remote else self.place) as room:
            rows = self._bucket.stream(batches)
            written = write_shards(rows, Path(room), self._schema, self._num_classes)
            if is_remote:
                _upload(Path(room), f"{self.place}/{folder}")
            else:
                Path(room).rename(Path(self.place, folder))
                Path(room).mkdir()
        replies = []
        for split in SPLITS:
            for position, name in enumerate(written.shards[split]):
                reply: dict[str, Any] = {"partition": context.partitionId(), "folder": folder, "split": split}
                # the figures are of a task's rows of a split, so they stand beside its first shard only
                counts = written.class_counts[split] if written.class_counts and position == 0 else []
                replies.append(
                    {**reply, "name": name, "rows": 0 if position else written.rows[split], "class_counts": counts}
                )
        yield pa.RecordBatch.from_pylist(replies, schema=_reply_schema())


def collect_shards(replies: Sequence[Mapping[str, Any]], place: str, output: Path, num_classes: int | None) -> Written:
    """Bring the shards of the attempts that won into `output`, numbered in the order of their rows."""
    shards: dict[SplitName, list[str]] = {split: [] for split in SPLITS}
    rows = dict.fromkeys(SPLITS, 0)
    counts = {split: [0] * (num_classes or 0) for split in SPLITS}
    for reply in sorted(replies, key=lambda each: (each["partition"], each["name"])):
        split: SplitName = reply["split"]
        name = f"{split}-{len(shards[split]):05d}.parquet"
        _take(f"{place}/{reply['folder']}/{reply['name']}", output / name)
        shards[split].append(name)
        rows[split] += reply["rows"]
        for index, count in enumerate(reply["class_counts"]):
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


def _reply_schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            ("partition", pa.int32()),
            ("folder", pa.string()),
            ("split", pa.string()),
            ("name", pa.string()),
            ("rows", pa.int64()),
            ("class_counts", pa.list_(pa.int64())),
        ]
    )


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
