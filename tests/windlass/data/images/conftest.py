"""Real image sources: written by these fixtures, or the folder WINDLASS_DATA."""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from windlass.data.config import DataConfig
from windlass.data.description import DatasetDescription
from windlass.data.images import prepare_images
from windlass.data.sources import resolve_source

Prepare = Callable[..., tuple[DatasetDescription, Path]]


@pytest.fixture
def prepared(tmp_path: Path) -> Prepare:
    """Prepare a source into a new directory; further arguments are those of the recipe's `data`."""

    def run(source: str | Path | tuple[str, ...], *, memory_limit_bytes: int = 10**9, **data: Any) -> Any:
        shown = str(source) if isinstance(source, Path) else source
        config = DataConfig.model_validate({"source": shown, **data})
        output = tmp_path / f"bundle-{len(list(tmp_path.iterdir()))}"
        output.mkdir()
        description = prepare_images(
            config,
            source=resolve_source(config.source, tmp_path),
            output=output,
            memory_limit_bytes=memory_limit_bytes,
            threads=2,
        )
        return description, output

    return run


@pytest.fixture
def write_idx(tmp_path: Path) -> Callable[..., Path]:
    """Write an IDX pair into a new folder."""

    def write(images: np.ndarray, labels: np.ndarray, *, zipped: bool = False, name: str = "idx") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for stem, values in (("train-images-idx3-ubyte", images), ("train-labels-idx1-ubyte", labels)):
            header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
            content = header + values.astype(np.uint8).tobytes()
            if zipped:
                (folder / f"{stem}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / stem).write_bytes(content)
        return folder

    return write


@pytest.fixture
def write_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write PNG files by class into a new folder."""

    def write(images: dict[str, np.ndarray], name: str = "photos") -> Path:
        for label, group in images.items():
            directory = tmp_path / name / label
            directory.mkdir(parents=True)
            for index, pixels in enumerate(group):
                Image.fromarray(pixels).save(directory / f"{index:04d}.png")
        return tmp_path / name

    return write


@pytest.fixture
def mnist() -> str:
    if "WINDLASS_DATA" not in os.environ:
        pytest.skip("WINDLASS_DATA does not name the folder with the data sets")
    return "${WINDLASS_DATA}/mnist-10k"
