"""Which split each image goes to: by its pixels and the seed, exact to the row in each class."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from windlass.data.config import SplitConfig
from windlass.data.description import SPLITS
from windlass.data.errors import SplitError

Keys = np.ndarray[Any, np.dtype[np.uint64]]
Labels = np.ndarray[Any, np.dtype[np.int64]]
SplitIndices = np.ndarray[Any, np.dtype[np.int8]]

TRAIN, VALIDATION, TEST = range(len(SPLITS))


def split_key(content_digest: bytes, seed: int) -> int:
    """The first 64 bits of the MD5 of an image's digest and the seed: as good as random, the same everywhere."""
    return int.from_bytes(hashlib.md5(content_digest + str(seed).encode(), usedforsecurity=False).digest()[:8], "big")


def assign_splits(keys_N: Keys, labels_N: Labels, config: SplitConfig) -> SplitIndices:
    """The index into SPLITS of each image.

    In each class the images with the lowest keys are tested on, those that follow validate. Equal images have equal
    keys, so they stay together, also where they carry several labels: then the lowest label's bounds count for all.
    A class keeps at least one image in train.

    Raises:
        SplitError: validation or test was asked for and gets no image.
    """
    unique_keys, group_N = np.unique(keys_N, return_inverse=True)
    class_of_group = np.full(len(unique_keys), np.iinfo(np.int64).max)
    np.minimum.at(class_of_group, group_N, labels_N)
    class_N = class_of_group[group_N]
    splits_N = np.full(len(keys_N), TRAIN, dtype=np.int8)
    for label in np.unique(class_N):
        members = np.flatnonzero(class_N == label)
        keys = keys_N[members]
        num_test = min(round(len(keys) * config.test), len(keys) - 1)
        num_held = min(num_test + round(len(keys) * config.validation), len(keys) - 1)
        test_bound, held_bound = np.partition(keys, (num_test, num_held))[[num_test, num_held]]
        splits_N[members[keys < held_bound]] = VALIDATION
        splits_N[members[keys < test_bound]] = TEST
    for name, index, share in (("validation", VALIDATION, config.validation), ("test", TEST, config.test)):
        if share > 0 and not (splits_N == index).any():
            raise SplitError(f"{name} gets none of the {len(keys_N):,} images; give more images or a larger share")
    return splits_N
