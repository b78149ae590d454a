"""One function decodes: what it makes of honest images, and how it refuses the others."""

from __future__ import annotations

import io
import resource
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from windlass.variants.images import ImageError, decode, read_header, resize


def _file(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def _png_claiming(width: int, height: int, pixels: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_a_lossless_image_of_the_right_size_comes_back_as_it_is() -> None:
    pixels = _noise((5, 7, 3))
    np.testing.assert_array_equal(decode(_file(Image.fromarray(pixels)), (5, 7), 3), pixels)
    grey = _noise((5, 7))
    np.testing.assert_array_equal(decode(_file(Image.fromarray(grey)), (5, 7), 1)[:, :, 0], grey)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM"])
def test_every_format_is_read_and_resized(kind: str) -> None:
    data = _file(Image.new("RGB", (40, 20), (200, 100, 50)), kind)
    image = decode(data, (8, 6), 3)
    assert image.shape == (8, 6, 3)
    assert np.abs(image.astype(int) - [200, 100, 50]).max() <= 6


def test_decoded_pixels_are_resized_as_files_are() -> None:
    for pixels in (_noise((30, 20, 3)), _noise((30, 20, 1))):
        data = _file(Image.fromarray(pixels.squeeze()))
        np.testing.assert_array_equal(resize(pixels, (11, 9)), decode(data, (11, 9), pixels.shape[2]))


def test_grey_of_16_bits_is_scaled_not_clipped() -> None:
    data = _file(Image.fromarray(np.array([[0, 256, 0x8000, 0xFFFF]], dtype=np.uint16)))
    assert decode(data, (1, 4), 1)[:, :, 0].tolist() == [[0, 1, 128, 255]]
    assert read_header(io.BytesIO(data)).channels == 1


def test_transparency_lies_on_white() -> None:
    image = Image.new("RGBA", (2, 2), (0, 0, 0, 0))
    assert decode(_file(image), (2, 2), 3).tolist() == [[[255] * 3] * 2] * 2


def test_a_header_is_read_without_decoding_the_pixels() -> None:
    data = _file(Image.fromarray(_noise((500, 500))))
    header = read_header(io.BytesIO(data[:200]))
    assert (header.height, header.width, header.channels) == (500, 500, 1)


def test_a_photo_on_its_side_is_set_upright_in_pixels_and_header() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("L", (40, 20), 0)
    image.paste(255, (0, 0, 20, 20))
    data = _file(image, "JPEG", exif=exif, quality=95)
    header = read_header(io.BytesIO(data))
    assert (header.height, header.width) == (40, 20)
    upright = decode(data, (40, 20), 1)
    assert upright[:18].mean() > 250
    assert upright[22:].mean() < 5


@pytest.mark.attack
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5])
def test_a_truncated_image_is_refused(kind: str, share: float) -> None:
    data = _file(Image.fromarray(_noise((64, 64, 3))), kind)
    with pytest.raises(ImageError, match=r"truncated or damaged|not an image"):
        decode(data[: int(len(data) * share)], (64, 64), 3)


@pytest.mark.attack
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (_png_claiming(0, 0), "no pixels|truncated or damaged|not an image"),
        (_png_claiming(60_000, 60_000), "too large"),
        (_png_claiming(10_000, 9_000), "too large"),
        (_png_claiming(2**31 - 1, 2**31 - 1), "too large"),
        (b"", "not an image"),
        (b"not an image at all", "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    ],
)
def test_what_has_no_or_too_many_pixels_is_refused_at_once(data: bytes, reason: str) -> None:
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started_s = time.perf_counter()
    for attempt in (lambda: decode(data, (8, 8), 1), lambda: read_header(io.BytesIO(data))):
        with pytest.raises(ImageError, match=reason):
            attempt()
    assert time.perf_counter() - started_s < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 100_000


@pytest.mark.attack
def test_a_bomb_of_few_kilobytes_is_refused_by_its_header() -> None:
    data = _png_claiming(30_000, 30_000, bytes(10_000_000))
    assert len(data) < 20_000
    with pytest.raises(ImageError, match="too large"):
        decode(data, (8, 8), 1)
