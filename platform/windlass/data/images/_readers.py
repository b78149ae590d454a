"""Where images come from: an IDX pair, a folder by class, or scikit-learn's digits. All stream in chunks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from windlass.data.errors import TargetError
from windlass.data.sources import ResolvedSource
from windlass.variants.images import resize

Images = np.ndarray[Any, np.dtype[np.uint8]]
Labels = np.ndarray[Any, np.dtype[np.int64]]

_DIGITS_LARGEST = 16
LABEL = "label"


class ImageReader(Protocol):
    """Images of one shape with their labels."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels, as `chunks` gives them."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def num_images(self) -> int:
        """What `chunks` gives in all, or more where images turn out to be damaged."""
        ...

    @property
    def dropped(self) -> Counter[str]:
        """Reason to count; complete when `chunks` is at its end."""
        ...

    @property
    def warnings(self) -> list[str]: ...

    def chunks(self, chunk_images: int) -> Iterator[tuple[Images, Labels]]:
        """uint8 [N, H, W, C] and the index into `class_names` [N], N being at most `chunk_images`."""
        ...


class DigitsReader:
    """scikit-learn's 1,797 handwritten digits of 8×8 pixels; its values from 0 to 16 become 0 to 255."""

    def __init__(self, source: ResolvedSource, image_size: tuple[int, int] | None) -> None:
        from sklearn.datasets import load_digits

        assert source.dataset == "digits"
        digits = load_digits()
        pixels_NHW = np.round(digits.images * (255 / _DIGITS_LARGEST)).astype(np.uint8)
        self._images = resized(pixels_NHW[..., np.newaxis], image_size)
        self._labels = digits.target.astype(np.int64)
        self.shape: tuple[int, int, int] = self._images.shape[1:]
        self.class_names = tuple(str(name) for name in digits.target_names)
        self.num_images = len(self._labels)
        self.dropped: Counter[str] = Counter()
        self.warnings: list[str] = []

    def chunks(self, chunk_images: int) -> Iterator[tuple[Images, Labels]]:
        for start in range(0, self.num_images, chunk_images):
            yield self._images[start : start + chunk_images], self._labels[start : start + chunk_images]


def resized(images_NHWC: Images, size: tuple[int, int] | None) -> Images:
    """The images in the given height and width, or as they are."""
    if size is None or images_NHWC.shape[1:3] == size or len(images_NHWC) == 0:
        return images_NHWC
    return np.stack([resize(image, size) for image in images_NHWC])


def refuse_one_class(class_names: tuple[str, ...]) -> None:
    """Raise TargetError unless there is something to tell apart."""
    if len(class_names) < 2:
        names = f"all images are of the class {class_names[0]!r}" if class_names else "there are no images"
        raise TargetError(LABEL, f"{names}; two classes are the least that can be told apart")
