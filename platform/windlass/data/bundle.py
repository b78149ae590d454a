"""The dataset bundle: Parquet shards by split, and `dataset.json` beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windlass.data.description import DATASET_NAME, SPLITS, DatasetDescription, SplitName
from windlass.errors import CorruptedError

if TYPE_CHECKING:
    import pyarrow as pa

SHARD_BYTES = 64 * 10**6
_ROW_GROUP_BYTES = 8 * 10**6
_COMPRESSION = "lz4"


class Bundle:
    """A bundle that lies in a local directory."""

    def __init__(self, directory: Path, description: DatasetDescription) -> None:
        self.directory, self.description = directory, description

    @classmethod
    def open(cls, directory: Path) -> Bundle:
        """Read the description and check that every shard is there.

        Raises:
            CorruptedError: the description or a shard is missing, or the description is of another form.
        """
        description = DatasetDescription.read(directory / DATASET_NAME)
        for names in description.shards.values():
            for name in names:
                if not (directory / name).is_file():
                    raise CorruptedError(f"{directory / name} is missing; run the step prepare again")
        return cls(directory, description)

    def table(self, split: SplitName, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows of a split, in the order of the shards."""
        import pyarrow.parquet as pq

        paths = [str(self.directory / name) for name in self.description.shards[split]]
        return pq.read_table(paths, columns=None if columns is None else list(columns))

    def batches(
        self, split: SplitName, batch_rows: int, columns: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The rows of a split in the order of the shards, in flat memory; a shard's last batch may be shorter."""
        import pyarrow.parquet as pq

        for name in self.description.shards[split]:
            with pq.ParquetFile(self.directory / name) as file:
                yield from file.iter_batches(batch_rows, columns=None if columns is None else list(columns))


class BundleWriter:
    """Writes the shards of a bundle; each holds at most about `shard_bytes` of its rows in memory form.

    Use it as a context: `with BundleWriter(output, schema) as writer: writer.write("train", batch)`; afterwards
    `writer.shards` and `writer.rows` go into the description.
    """

    def __init__(self, output: Path, schema: pa.Schema, shard_bytes: int = SHARD_BYTES) -> None:
        self._output, self._schema, self._shard_bytes = output, schema, shard_bytes
        self._files: dict[SplitName, Any] = {}
        self._bytes = dict.fromkeys(SPLITS, 0)
        self._names: dict[SplitName, list[str]] = {split: [] for split in SPLITS}
        self.rows: dict[SplitName, int] = dict.fromkeys(SPLITS, 0)

    def __enter__(self) -> BundleWriter:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()

    @property
    def shards(self) -> dict[SplitName, tuple[str, ...]]:
        return {split: tuple(names) for split, names in self._names.items()}

    def write(self, split: SplitName, batch: pa.RecordBatch | pa.Table) -> None:
        """Append rows to a split; a batch is never divided between shards, so keep it well below `shard_bytes`."""
        import pyarrow as pa

        if batch.num_rows == 0:
            return
        table = batch if isinstance(batch, pa.Table) else pa.Table.from_batches([batch])
        rows_per_group = max(1, round(table.num_rows * _ROW_GROUP_BYTES / max(table.nbytes, 1)))
        self._file(split).write_table(table, row_group_size=rows_per_group)
        self.rows[split] += table.num_rows
        self._bytes[split] += table.nbytes
        if self._bytes[split] >= self._shard_bytes:
            self._files.pop(split).close()

    def _file(self, split: SplitName) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if split not in self._files:
            name = f"{split}-{len(self._names[split]):05d}.parquet"
            self._names[split].append(name)
            self._bytes[split] = 0
            texts = [field.name for field in self._schema if pa.types.is_string(field.type)]
            self._files[split] = pq.ParquetWriter(
                self._output / name, self._schema, compression=_COMPRESSION, use_dictionary=texts
            )
        return self._files[split]


@dataclass(frozen=True)
class Written:
    """The shards of a table, by split."""

    shards: dict[SplitName, tuple[str, ...]]
    rows: dict[SplitName, int]
    class_counts: dict[SplitName, tuple[int, ...]] | None
    """Rows of each class; None where the target is a number."""


def write_shards(
    batches: Iterable[pa.RecordBatch], output: Path, schema: pa.Schema, num_classes: int | None
) -> Written:
    """Write rows in the order in which they come.

    Args:
        batches: the columns of `schema` in their order, then `split`.
        num_classes: of the last column of `schema`, where it is an index.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    counts = {split: np.zeros(num_classes or 0, np.int64) for split in SPLITS}
    with BundleWriter(output, schema) as writer:
        for batch in batches:
            splits = batch.column(len(schema))
            for split in SPLITS:
                part = batch.filter(pc.equal(splits, split))
                arrays = [part.column(i).cast(field.type) for i, field in enumerate(schema)]
                writer.write(split, pa.RecordBatch.from_arrays(arrays, schema=schema))
                if num_classes is not None:
                    counts[split] += np.bincount(arrays[-1].to_numpy(), minlength=num_classes)
    if num_classes is None:
        return Written(writer.shards, writer.rows, None)
    return Written(writer.shards, writer.rows, {split: tuple(map(int, found)) for split, found in counts.items()})
