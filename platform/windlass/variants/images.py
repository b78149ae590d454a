"""The one function that turns an image file into the pixels of a model's input, in prepare and in the gateway."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from windlass.errors import InvalidInputError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    Array = np.ndarray[Any, np.dtype[np.uint8]]

MAX_PIXELS = 50_000_000
"""Of one image before it is resized: 50 megapixels, 150 MB decoded."""

_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_GREY_MODES = ("1", "L", "LA", "I;16", "I;16B", "I;16L")
_ORIENTATION_TAG = 0x0112
_SIDEWAYS = (5, 6, 7, 8)


class ImageError(InvalidInputError):
    """An image does not open. `reason` is a short name for counting, such as "truncated or damaged"."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"the image is refused: {reason} ({detail})")
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class ImageHeader:
    """What an image says of itself before its pixels are decoded; the size is that after its EXIF orientation."""

    height: int
    width: int
    channels: int
    """1 for grey, 3 for colour."""


def read_header(file: BinaryIO) -> ImageHeader:
    """Size and channels of an image, from the first bytes of the file.

    Raises:
        ImageError: not an image that we read, without pixels, or larger than `MAX_PIXELS`.
    """
    with _opened(file) as image:
        width, height = image.size
        # Asking a PNG without EXIF for it would decode the pixels in search of it.
        has_exif = "exif" in image.info or image.format == "TIFF"
        if has_exif and image.getexif().get(_ORIENTATION_TAG) in _SIDEWAYS:
            width, height = height, width
        return ImageHeader(height=height, width=width, channels=1 if image.mode in _GREY_MODES else 3)


def decode(data: bytes, size: tuple[int, int], channels: int) -> Array:
    """Decode an image file and resize it, as every image of a model is, when it learns and when it serves.

    The first frame, upright by its EXIF orientation; transparency lies on white; 16-bit grey is scaled to 8 bits;
    resizing is bilinear with antialiasing.

    Args:
        size: height and width of the result.
        channels: 1 for grey (ITU-R 601 luma of a colour image), 3 for RGB.

    Returns:
        uint8 [H, W, C].

    Raises:
        ImageError: not an image that we read, truncated, without pixels, or larger than `MAX_PIXELS`.
    """
    import numpy as np
    from PIL import Image, ImageOps

    with _opened(io.BytesIO(data)) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
        flat = _to_mode(upright, "L" if channels == 1 else "RGB")
        height, width = size
        if flat.size != (width, height):
            flat = flat.resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(flat, dtype=np.uint8).reshape(height, width, channels)


def resize(image_HWC: Array, size: tuple[int, int]) -> Array:
    """Resize decoded pixels, uint8 [H, W, C], in the way of `decode`."""
    import numpy as np
    from PIL import Image

    channels = image_HWC.shape[2]
    height, width = size
    image = Image.fromarray(image_HWC[:, :, 0] if channels == 1 else image_HWC)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.uint8).reshape(height, width, channels)


@contextmanager
def _opened(file: BinaryIO) -> Iterator[Image.Image]:
    """The image with its header read and its size checked; every way in which Pillow fails becomes ImageError."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file, formats=_FORMATS) as image:
            _check_size(*image.size)
            yield image
    except UnidentifiedImageError as error:
        raise ImageError("not an image", f"none of {', '.join(_FORMATS)}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("too large", f"over {MAX_PIXELS:,} pixels") from error
    except MemoryError as error:
        raise ImageError("too large", "its pixels do not fit into memory") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, struct.error, zlib.error) as error:
        raise ImageError("truncated or damaged", str(error) or type(error).__name__) from error


def _check_size(width: int, height: int) -> None:
    if width <= 0 or height <= 0:
        raise ImageError("no pixels", f"{width}×{height}")
    if width * height > MAX_PIXELS:
        raise ImageError("too large", f"{width:,}×{height:,} pixels, over {MAX_PIXELS:,}")


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    import numpy as np
    from PIL import Image

    if image.mode.startswith("I;16"):
        # Pillow clips 16-bit grey at 255 where one expects it to be scaled.
        image = Image.fromarray((np.asarray(image, dtype=np.uint16) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ImageError("not an image", f"pixels of the type {image.mode}, not 8 or 16 bits")
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(opaque, image.convert("RGBA"))
    return image if image.mode == mode else image.convert(mode)
