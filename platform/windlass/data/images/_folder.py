"""A folder of images: the first folder of an image's path is its class."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np

from windlass.data.errors import BadFileError, TargetError
from windlass.data.images._readers import LABEL, Images, Labels, refuse_one_class
from windlass.data.images.errors import BadImageError, ImageSizesDifferError
from windlass.data.sources import ResolvedSource, SourceFile, open_source
from windlass.progress import track
from windlass.variants.images import ImageError, ImageHeader, decode, read_header

_DECODING_BYTES_PER_PIXEL = 12
"""The picture, its copy without transparency and the one that is resized, at up to four bytes."""
_MAX_FILE_BYTES = 256_000_000
_NAMES_SHOWN = 3
_HEADERS_AT_ONCE = 256


class FolderReader:
    """Headers are read when the reader is made, pixels while its chunks are taken."""

    def __init__(
        self,
        source: ResolvedSource,
        image_size: tuple[int, int] | None,
        bad_images: Literal["refuse", "drop"],
        memory_limit_bytes: int,
        threads: int,
    ) -> None:
        self._policy, self._threads = bad_images, threads
        self._largest_bytes = memory_limit_bytes // 2
        self.dropped: Counter[str] = Counter()
        self._bad: dict[str, list[str]] = defaultdict(list)
        self._first_of_size: dict[tuple[int, int], str] = {}
        self._sizes: Counter[tuple[int, int]] = Counter()
        self._colour = False
        self._decoding_bytes = 1
        self._files = self._read_headers(source)
        self._refuse_bad()
        self.class_names = tuple(sorted({_class_of(file) for file in source.files}))
        refuse_one_class(self.class_names)
        if not self._files:
            first = next(iter(self._bad.values()))[0]
            raise TargetError(LABEL, f"none of the {len(source.files):,} images opens; the first is {first}")
        self.num_images = len(self._files)
        self.shape: tuple[int, int, int] = (*(image_size or self._one_size()), 3 if self._colour else 1)

    @property
    def warnings(self) -> list[str]:
        return [
            f"{self.dropped[reason]:,} images were left out ({reason}): {', '.join(names)}"
            + (", …" if self.dropped[reason] > len(names) else "")
            for reason, names in self._bad.items()
        ]

    def chunks(self, chunk_images: int) -> Iterator[tuple[Images, Labels]]:
        indices = {name: index for index, name in enumerate(self.class_names)}
        seen: set[str] = set()
        # So many at once that their decoded forms fit into memory together.
        workers = max(1, min(self._threads, self._largest_bytes // self._decoding_bytes))
        with ThreadPoolExecutor(workers) as pool:
            for start in range(0, len(self._files), chunk_images):
                files = self._files[start : start + chunk_images]
                images, labels = [], []
                for file, image in zip(files, pool.map(self._decode, files), strict=True):
                    if isinstance(image, ImageError):
                        self._note_bad(file, image)
                        self._refuse_bad()
                        continue
                    images.append(image)
                    labels.append(indices[_class_of(file)])
                    seen.add(_class_of(file))
                if images:
                    yield np.stack(images), np.array(labels, dtype=np.int64)
        lost = sorted(set(self.class_names) - seen)
        if lost:
            raise TargetError(LABEL, f"no image of the class {lost[0]!r} opens; repair them or remove the folder")

    def _decode(self, file: SourceFile) -> Images | ImageError:
        height, width, channels = self.shape
        with open_source(file.uri) as stream:
            data = stream.read()
        try:
            return decode(data, (height, width), channels)
        except ImageError as error:
            return error

    def _read_headers(self, source: ResolvedSource) -> list[SourceFile]:
        good = []
        with ThreadPoolExecutor(self._threads) as pool, track("headers", len(source.files), "images") as bar:
            for start in range(0, len(source.files), _HEADERS_AT_ONCE):
                files = source.files[start : start + _HEADERS_AT_ONCE]
                for file, header in zip(files, pool.map(self._read_header, files), strict=True):
                    if isinstance(header, ImageError):
                        self._note_bad(file, header)
                        continue
                    size = header.height, header.width
                    self._first_of_size.setdefault(size, file.name)
                    self._sizes[size] += 1
                    self._colour = self._colour or header.channels == 3
                    needed_bytes = header.height * header.width * _DECODING_BYTES_PER_PIXEL
                    self._decoding_bytes = max(self._decoding_bytes, needed_bytes)
                    good.append(file)
                bar.advance(len(files))
        return good

    def _read_header(self, file: SourceFile) -> ImageHeader | ImageError:
        _class_of(file)
        if file.size_bytes > _MAX_FILE_BYTES:
            return ImageError("too large", f"a file of {file.size_bytes:,} bytes, over {_MAX_FILE_BYTES:,}")
        try:
            with open_source(file.uri) as stream:
                header = read_header(stream)  # type: ignore[arg-type]  # IO[bytes] reads as a BinaryIO does
        except ImageError as error:
            return error
        needed_bytes = header.height * header.width * _DECODING_BYTES_PER_PIXEL
        if needed_bytes > self._largest_bytes:
            return ImageError("too large", f"decoding takes {needed_bytes:,} bytes, over half of the memory limit")
        return header

    def _note_bad(self, file: SourceFile, error: ImageError) -> None:
        self.dropped[f"image {error.reason}"] += 1
        names = self._bad[f"image {error.reason}"]
        if len(names) < _NAMES_SHOWN:
            names.append(f"{file.name} ({error.detail})")

    def _refuse_bad(self) -> None:
        if self._policy == "refuse" and self._bad:
            reason, names = next(iter(self._bad.items()))
            raise BadImageError(names[0], reason, self.dropped[reason])

    def _one_size(self) -> tuple[int, int]:
        (size, _), *others = self._sizes.most_common()
        if others:
            other = others[0][0]
            raise ImageSizesDifferError(self._first_of_size[size], size, self._first_of_size[other], other)
        return size


def _class_of(file: SourceFile) -> str:
    name, separator, _ = file.name.partition("/")
    if not separator:
        raise BadFileError(file.name, "it lies in no class; put each image into a folder named after its class")
    return name
