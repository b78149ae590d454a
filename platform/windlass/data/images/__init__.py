"""Images become a dataset bundle in one stream: decoded once, split by their pixels, never all in memory."""

from windlass.data.images._prepare import image_batch, image_schema, open_reader, prepare_images
from windlass.data.images.errors import BadImageError, ImageSizesDifferError

__all__ = [
    "BadImageError",
    "ImageSizesDifferError",
    "image_batch",
    "image_schema",
    "open_reader",
    "prepare_images",
]
