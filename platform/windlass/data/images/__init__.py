"""Images become a dataset bundle in one stream: decoded once, split by their pixels, never all in memory."""

from windlass.data.images._prepare import prepare_images
from windlass.data.images.errors import BadImageError, ImageSizesDifferError

__all__ = ["BadImageError", "ImageSizesDifferError", "prepare_images"]
