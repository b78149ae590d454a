"""`image-classification`: which class an image shows."""

from __future__ import annotations

from typing import ClassVar, Literal

from windlass.tasks.classification import Classification


class ImageClassification(Classification):
    """Images of one size, one class each."""

    name: ClassVar[str] = "image-classification"
    modality: ClassVar[Literal["table", "images"]] = "images"
    default_architecture: ClassVar[str] = "cnn"
