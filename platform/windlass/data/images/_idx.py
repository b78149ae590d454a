"""The IDX format of the MNIST database: a file of images and a file of labels, plain or gzipped.

Four bytes (0, 0, type, number of axes), each axis as a big-endian uint32, then the values in C order
(http://yann.lecun.com/exdb/mnist/).
"""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from windlass.data.errors import BadFileError
from windlass.data.images._readers import Images, Labels, refuse_one_class, resized
from windlass.data.sources import ResolvedSource, SourceFile, open_source
from windlass.variants.images import MAX_PIXELS

_UNSIGNED_BYTES = 0x08
_GZIP_MAGIC = b"\x1f\x8b"
_BYTES_PER_IMAGE_IN_MEMORY = 64
"""Label, key, split and what sorting them takes."""


@dataclass(frozen=True)
class _IdxFile:
    file: SourceFile
    shape: tuple[int, ...]


class IdxReader:
    """An IDX pair. Which file holds the labels is read from the files, not from their names."""

    def __init__(self, source: ResolvedSource, image_size: tuple[int, int] | None, memory_limit_bytes: int) -> None:
        found = sorted((_read_header(file) for file in source.files), key=lambda idx: len(idx.shape))
        labels, images = found
        if len(labels.shape) != 1 or len(images.shape) not in (3, 4):
            axes = " and ".join(f"{idx.file.name} has {len(idx.shape)} axes" for idx in found)
            raise BadFileError(images.file.name, f"an IDX pair is labels (1 axis) and images (3 or 4 axes), but {axes}")
        if labels.shape[0] != images.shape[0]:
            raise BadFileError(
                images.file.name,
                f"it says {images.shape[0]:,} images and {labels.file.name} says {labels.shape[0]:,} labels",
            )
        self._images, self._labels, self._size = images, labels, image_size
        self._stored_shape = (*images.shape[1:], 1)[:3]
        self._check_shape(memory_limit_bytes)
        values = self._read_labels()
        present = np.unique(values)
        self._indices = np.searchsorted(present, values)
        self.class_names = tuple(str(value) for value in present)
        refuse_one_class(self.class_names)
        height, width, channels = self._stored_shape
        self.shape: tuple[int, int, int] = (*(image_size or (height, width)), channels)
        self.num_images = images.shape[0]
        self.dropped: Counter[str] = Counter()
        self.warnings: list[str] = []

    def chunks(self, chunk_images: int) -> Iterator[tuple[Images, Labels]]:
        image_bytes = int(np.prod(self._stored_shape))
        with _values(self._images) as stream:
            for start in range(0, self.num_images, chunk_images):
                labels = self._indices[start : start + chunk_images].astype(np.int64)
                content = stream.read(len(labels) * image_bytes)
                if len(content) < len(labels) * image_bytes:
                    whole = start + len(content) // image_bytes
                    raise BadFileError(
                        self._images.file.name, f"it is cut off: {whole:,} of {self.num_images:,} images are whole"
                    )
                stored = np.frombuffer(content, dtype=np.uint8).reshape(len(labels), *self._stored_shape)
                yield resized(stored, self._size), labels
            _expect_end(self._images, stream)

    def _check_shape(self, memory_limit_bytes: int) -> None:
        name, count = self._images.file.name, self._images.shape[0]
        height, width, channels = self._stored_shape
        if count == 0 or height == 0 or width == 0:
            raise BadFileError(name, f"it holds {count:,} images of {height}×{width} pixels, so nothing to learn from")
        if channels not in (1, 3):
            raise BadFileError(name, f"its images have {channels} channels; 1 (grey) or 3 (colour) can be read")
        if height * width > MAX_PIXELS:
            raise BadFileError(name, f"an image of {height:,}×{width:,} pixels is over the limit of {MAX_PIXELS:,}")
        if count * _BYTES_PER_IMAGE_IN_MEMORY > memory_limit_bytes:
            raise BadFileError(name, f"{count:,} images are too many for the memory limit; raise resources.memory")

    def _read_labels(self) -> Images:
        count = self._labels.shape[0]
        with _values(self._labels) as stream:
            content = stream.read(count)
            if len(content) < count:
                raise BadFileError(self._labels.file.name, f"it is cut off: {len(content):,} of {count:,} labels")
            _expect_end(self._labels, stream)
        return np.frombuffer(content, dtype=np.uint8)


def _read_header(file: SourceFile) -> _IdxFile:
    with _opened(file) as stream:
        magic = stream.read(4)
        if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] != _UNSIGNED_BYTES or magic[3] not in (1, 3, 4):
            raise BadFileError(file.name, f"it does not start as an IDX file of bytes does, but with {magic!r}")
        axes = stream.read(4 * magic[3])
        if len(axes) < 4 * magic[3]:
            raise BadFileError(file.name, "it is cut off in its header")
        return _IdxFile(file, tuple(int(length) for length in np.frombuffer(axes, dtype=">u4")))


@contextmanager
def _values(idx: _IdxFile) -> Iterator[BinaryIO]:
    with _opened(idx.file) as stream:
        stream.read(4 + 4 * len(idx.shape))
        yield stream


@contextmanager
def _opened(file: SourceFile) -> Iterator[BinaryIO]:
    try:
        with open_source(file.uri) as raw:
            zipped = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            if zipped:
                with gzip.GzipFile(fileobj=raw) as stream:
                    yield stream  # type: ignore[misc]  # GzipFile reads as a BinaryIO does
            else:
                yield raw  # type: ignore[misc]
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadFileError(file.name, f"its gzip stream is cut off or damaged: {error}") from error


def _expect_end(idx: _IdxFile, stream: BinaryIO) -> None:
    if stream.read(1):
        raise BadFileError(idx.file.name, f"it goes on after the {idx.shape[0]:,} entries that its header declares")
