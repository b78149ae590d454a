"""Broken IDX files are refused by name, whatever they claim."""

from __future__ import annotations

import gzip
import resource
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from windlass.data.description import DatasetDescription
from windlass.data.errors import BadFileError

pytestmark = pytest.mark.attack

Prepare = Callable[..., tuple[DatasetDescription, Path]]
Write = Callable[..., Path]
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.fixture
def pair(write_idx: Write) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (100, 6, 5), dtype=np.uint8)
    return write_idx(pixels, np.arange(100) % 2)


def _header(*shape: int, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (IMAGES, lambda old: old[:-31], "it is cut off: 98 of 100 images are whole"),
        (IMAGES, lambda old: old + b"x", "it goes on after the 100 entries"),
        (IMAGES, lambda old: b"\x89PNG" + old, "it does not start as an IDX file of bytes does"),
        (IMAGES, lambda old: _header(100, 6, 5, kind=13) + old[16:], "it does not start as an IDX file of bytes does"),
        (IMAGES, lambda old: old[:9], "it is cut off in its header"),
        (IMAGES, lambda _old: b"", "it does not start as an IDX file of bytes does"),
        (IMAGES, lambda _old: _header(100, 0, 0), "100 images of 0×0 pixels"),
        (IMAGES, lambda _old: _header(100, 60_000, 60_000), "an image of 60,000×60,000 pixels is over the limit"),
        (IMAGES, lambda old: _header(99, 6, 5) + old[16:], "it says 99 images and train-labels-idx1-ubyte says 100"),
        (IMAGES, lambda _old: _header(100), "an IDX pair is labels"),
        (IMAGES, lambda old: _header(100, 6, 5, 2) + old[16:] * 2, "its images have 2 channels"),
        (LABELS, lambda old: old[:-1], "it is cut off: 99 of 100 labels"),
        (LABELS, lambda old: old + b"\0", "it goes on after the 100 entries"),
    ],
)
def test_a_broken_file_is_refused_and_named(
    prepared: Prepare, pair: Path, name: str, change: Callable[[bytes], bytes], message: str
) -> None:
    (pair / name).write_bytes(change((pair / name).read_bytes()))
    with pytest.raises(BadFileError) as caught:
        prepared(pair)
    assert message in str(caught.value)
    assert "-ubyte" in str(caught.value)


@pytest.mark.parametrize("keep", [0.5, 0.99])
def test_a_cut_gzip_stream_is_refused_and_named(prepared: Prepare, write_idx: Write, keep: float) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (100, 6, 5), dtype=np.uint8)
    path = write_idx(pixels, np.arange(100) % 2, zipped=True) / f"{IMAGES}.gz"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(BadFileError, match=r"images-idx3-ubyte\.gz: .*cut off"):
        prepared(path.parent)


def test_a_header_that_claims_billions_of_images_is_refused_in_little_memory(prepared: Prepare, pair: Path) -> None:
    count = 2**32 - 1
    for name, header in ((IMAGES, _header(count, 1, 1)), (LABELS, _header(count))):
        (pair / name).unlink()
        (pair / f"{name}.gz").write_bytes(gzip.compress(header + bytes(50_000_000), 1))
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadFileError, match="images are too many for the memory limit"):
        prepared(pair)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 100_000
