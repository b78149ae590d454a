"""What can be wrong with a user's images."""

from __future__ import annotations

from windlass.data.errors import DataError


class BadImageError(DataError):
    """Images that do not open, where the recipe refuses them."""

    def __init__(self, file: str, reason: str, count: int) -> None:
        more = f" ({count:,} such images in all)" if count > 1 else ""
        super().__init__(f"{file}: {reason}{more}; repair or remove it, or set data.bad_images: drop")
        self.file, self.reason, self.count = file, reason, count


class ImageSizesDifferError(DataError):
    """Images of several sizes, and no size to bring them to."""

    def __init__(self, one: str, one_size: tuple[int, int], other: str, other_size: tuple[int, int]) -> None:
        super().__init__(
            f"images differ in size: {one} is {one_size[0]}×{one_size[1]} and {other} is {other_size[0]}×"
            f"{other_size[1]} (height×width); set data.image_size, such as [{one_size[0]}, {one_size[1]}]"
        )
        self.one, self.other = one, other


class UnusedImageSettingError(DataError):
    """A setting of tables in a recipe for images."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"data.{key} is for tables: {reason}; remove it")
        self.key = key
