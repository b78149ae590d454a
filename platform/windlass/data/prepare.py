"""The step prepare: a table by the SQL program, images by their own stream."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from windlass.data.config import DataConfig
from windlass.data.description import DatasetDescription
from windlass.data.errors import ImagesOnSparkError, WrongModalityError
from windlass.data.sources import SKLEARN_IMAGES, ResolvedSource

if TYPE_CHECKING:
    from windlass.data.spark.kubernetes import SparkCluster


def prepare(
    config: DataConfig,
    *,
    modality: Literal["table", "images"],
    target_kind: Literal["class", "number"],
    source: ResolvedSource,
    output: Path,
    memory_limit_bytes: int,
    threads: int,
    carry: Sequence[str] = (),
    cluster: SparkCluster | None = None,
) -> DatasetDescription:
    """Write a dataset bundle, shards and `dataset.json`, into the existing directory `output`.

    Args:
        memory_limit_bytes: of this process as a whole.
        carry: columns of a table to be written even where the recipe leaves them out of the features.
        cluster: where Spark makes its executors, if it is the engine; None: on this machine.

    Raises:
        DataError: the data are not as they have to be; the message names the file, row or column.
    """
    images = source.kind in ("idx", "folder") or source.dataset in SKLEARN_IMAGES
    if images != (modality == "images"):
        raise WrongModalityError("images" if images else "a table", modality)
    if images:
        if config.engine == "spark":
            raise ImagesOnSparkError
        from windlass.data.images import prepare_images

        return prepare_images(
            config, source=source, output=output, memory_limit_bytes=memory_limit_bytes, threads=threads
        )
    from windlass.data.table import prepare_table

    return prepare_table(
        config,
        target_kind=target_kind,
        source=source,
        output=output,
        memory_limit_bytes=memory_limit_bytes,
        threads=threads,
        carry=carry,
        cluster=cluster,
    )
