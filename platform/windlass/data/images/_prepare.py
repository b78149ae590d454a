"""Images to a bundle: one pass decodes, digests and stages the pixels, one writes them where they belong."""

from __future__ import annotations

import hashlib
import math
import tempfile
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from windlass.data.bundle import BundleWriter
from windlass.data.config import DataConfig
from windlass.data.description import (
    DATASET_NAME,
    IMAGE_COLUMN,
    LABEL_COLUMN,
    SPLITS,
    DatasetDescription,
    PixelsTransform,
)
from windlass.data.errors import BadFileError
from windlass.data.images._folder import FolderReader
from windlass.data.images._idx import IdxReader
from windlass.data.images._readers import DigitsReader, ImageReader, Images, Labels
from windlass.data.images._split import TRAIN, Keys, SplitIndices, assign_splits, split_key
from windlass.data.images.errors import UnusedImageSettingError
from windlass.data.sources import ResolvedSource
from windlass.progress import message, track
from windlass.schema import digest_of

if TYPE_CHECKING:
    import pyarrow as pa

_CHUNK_BYTES = 8 << 20
_CHUNKS_IN_MEMORY = 16
"""A chunk is there decoded, as bytes, in Arrow and in a Parquet page; most of the limit stays for all the rest."""


def prepare_images(
    config: DataConfig, *, source: ResolvedSource, output: Path, memory_limit_bytes: int, threads: int
) -> DatasetDescription:
    """Write a bundle of images, shards and `dataset.json`, into the existing directory `output`.

    Memory stays flat, whatever the number of images, but for some 64 bytes each. On disk the decoded pixels lie a
    second time in `output` while this runs.

    Raises:
        DataError: the images are not as they have to be; the message names the file.
    """
    _refuse_settings_of_tables(config)
    reader = open_reader(config, source, memory_limit_bytes, threads)
    image_bytes = math.prod(reader.shape)
    chunk_bytes = min(_CHUNK_BYTES, memory_limit_bytes // _CHUNKS_IN_MEMORY)
    if image_bytes > chunk_bytes:
        shape = "×".join(map(str, reader.shape))
        raise BadFileError(
            source.files[0].name, f"images of {shape} values are too large to learn from; set a smaller data.image_size"
        )
    chunk_images = chunk_bytes // image_bytes
    with tempfile.TemporaryFile(dir=output) as staging:
        staged = _Staged(reader, config.split.seed, staging, chunk_images)
        splits_N = assign_splits(staged.keys_N, staged.labels_N, config.split)
        description = _write(reader, staged, splits_N, output)
    description.write(output / DATASET_NAME)
    for warning in description.warnings:
        message(warning)
    return description


def _refuse_settings_of_tables(config: DataConfig) -> None:
    for key, value in (
        ("target", config.target),
        ("columns", config.columns),
        ("drop", config.drop),
        ("split.group", config.split.group),
        ("split.time", config.split.time),
        ("split.column", config.split.column),
    ):
        if value:
            raise UnusedImageSettingError(key, "images have a label and no columns")


def open_reader(config: DataConfig, source: ResolvedSource, memory_limit_bytes: int, threads: int) -> ImageReader:
    """The images of a source, in the size that the configuration asks for."""
    if source.kind == "idx":
        return IdxReader(source, config.image_size, memory_limit_bytes)
    if source.kind == "folder":
        return FolderReader(source, config.image_size, config.bad_images, memory_limit_bytes, threads)
    return DigitsReader(source, config.image_size)


class _Staged:
    """The first pass: decoded pixels in a file, and of each image its split key and label in memory."""

    def __init__(self, reader: ImageReader, seed: int, file: IO[bytes], chunk_images: int) -> None:
        self._file, self._shape, self._chunk_images = file, reader.shape, chunk_images
        keys, labels = array("Q"), array("q")
        names = [name.encode() for name in reader.class_names]
        limbs = np.zeros(4, dtype=object)
        with track("images", reader.num_images, "images") as bar:
            for images_NHWC, labels_N in reader.chunks(chunk_images):
                rows = bytearray()
                for image_HWC, label in zip(images_NHWC, labels_N.tolist(), strict=True):
                    content = hashlib.md5(image_HWC.tobytes(), usedforsecurity=False).digest()
                    keys.append(split_key(content, seed))
                    rows += hashlib.md5(content + names[label], usedforsecurity=False).digest()
                limbs += np.frombuffer(rows, dtype=">u4").reshape(-1, 4).sum(axis=0, dtype=np.uint64).astype(object)
                labels.frombytes(labels_N.tobytes())
                file.write(np.ascontiguousarray(images_NHWC).data)
                bar.advance(len(labels_N))
        self.keys_N: Keys = np.frombuffer(keys, dtype=np.uint64)
        self.labels_N: Labels = np.frombuffer(labels, dtype=np.int64)
        self.fingerprint = digest_of(
            {
                "shape": reader.shape,
                "class_names": reader.class_names,
                "rows": len(keys),
                "digest_sums": [int(limb) for limb in limbs],
            }
        )

    def chunks(self) -> Iterator[tuple[slice, Images]]:
        """Where a chunk stands among all images, and its pixels."""
        self._file.seek(0)
        for start in range(0, len(self.keys_N), self._chunk_images):
            rows = slice(start, min(start + self._chunk_images, len(self.keys_N)))
            content = self._file.read((rows.stop - rows.start) * math.prod(self._shape))
            yield rows, np.frombuffer(content, dtype=np.uint8).reshape(-1, *self._shape)

    def warnings(self) -> list[str]:
        distinct = len(np.unique(self.keys_N))
        pairs = np.stack([self.keys_N, self.labels_N.astype(np.uint64)], axis=1)
        distinct_with_label = len(np.unique(pairs, axis=0))
        found = []
        if distinct_with_label < len(pairs):
            copies = len(pairs) - distinct_with_label
            found.append(f"{copies:,} images are exact copies of others; each stays in the split of its original")
        if distinct < distinct_with_label:
            found.append(f"{distinct_with_label - distinct:,} images stand in the data with several labels")
        return found


def _write(reader: ImageReader, staged: _Staged, splits_N: SplitIndices, output: Path) -> DatasetDescription:
    schema = image_schema(reader.shape)
    histogram = np.zeros((reader.shape[2], 256), dtype=np.int64)
    with track("shards", len(splits_N), "images") as bar, BundleWriter(output, schema) as writer:
        for rows, images_NHWC in staged.chunks():
            for index, split in enumerate(SPLITS):
                chosen = np.flatnonzero(splits_N[rows] == index)
                if len(chosen) == 0:
                    continue
                images = images_NHWC[chosen]
                writer.write(split, image_batch(schema, images, staged.labels_N[rows][chosen]))
                if index == TRAIN:
                    for channel, counts in enumerate(histogram):
                        counts += np.bincount(images[..., channel].ravel(), minlength=256)
            bar.advance(rows.stop - rows.start)
    class_counts = [
        tuple(np.bincount(staged.labels_N[splits_N == index], minlength=len(reader.class_names)).tolist())
        for index in range(len(SPLITS))
    ]
    return DatasetDescription(
        modality="images",
        target_kind="class",
        target=LABEL_COLUMN,
        columns=(),
        class_names=reader.class_names,
        image_shape=reader.shape,
        rows=writer.rows,
        class_counts=dict(zip(SPLITS, class_counts, strict=True)),
        shards=writer.shards,
        transforms=(_fit(histogram),),
        fingerprint=staged.fingerprint,
        dropped_rows=dict(reader.dropped),
        warnings=tuple(reader.warnings + staged.warnings()),
    )


def image_schema(shape: tuple[int, int, int]) -> pa.Schema:
    """How shards store images of a shape, and their labels."""
    import pyarrow as pa

    return pa.schema([(IMAGE_COLUMN, pa.binary(math.prod(shape))), (LABEL_COLUMN, pa.int64())])


def image_batch(schema: pa.Schema, images_NHWC: Images, labels_N: Labels) -> pa.RecordBatch:
    """Images and the indices of their classes as rows of a shard."""
    import pyarrow as pa

    pixels = pa.FixedSizeBinaryArray.from_buffers(
        schema.field(IMAGE_COLUMN).type, len(labels_N), [None, pa.py_buffer(np.ascontiguousarray(images_NHWC))]
    )
    return pa.record_batch([pixels, pa.array(labels_N)], schema=schema)


def _fit(histogram_C256: np.ndarray[Any, np.dtype[np.int64]]) -> PixelsTransform:
    """Mean and deviation of each channel over train, from exact counts: the same for any order and chunking."""
    values = np.arange(256) / 255
    means, deviations = [], []
    for counts in histogram_C256:
        mean = float(counts @ values / counts.sum())
        deviation = math.sqrt(float(counts @ (values - mean) ** 2 / counts.sum()))
        means.append(mean)
        # A channel without contrast stays as it is, where dividing by zero would make it infinite.
        deviations.append(deviation or 1.0)
    return PixelsTransform(mean=tuple(means), std=tuple(deviations))
