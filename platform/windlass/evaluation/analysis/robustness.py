"""What changed rows do to the answers: noise, blur and shift of images; missing, shuffled and noisy columns of tables.

Kinds of change after Hendrycks and Dietterich (2019), "Benchmarking neural network robustness to common corruptions
and perturbations"; strengths grow with the size of the picture.

Shapes: N rows of the sample, H height, W width, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from windlass.data.description import Column, NumberTransform
from windlass.data.features import IMAGE_INPUT
from windlass.data.program import LARGEST
from windlass.evaluation.analysis.documents import Perturbation, PerturbationKind, Unit
from windlass.evaluation.analysis.sample import Array, Inputs, Sample, generator
from windlass.evaluation.analysis.subject import Subject

_NOISE_GREY_LEVELS = (12.0, 25.0, 50.0)
_BLUR_SHARES = (1 / 56, 1 / 28, 1 / 14)
_SHIFT_SHARES = (1 / 28, 1 / 14, 1 / 7)
"""Of the picture's smaller side."""
_LEAST_BLUR_PIXELS = 0.5
_NOISE_DEVIATIONS = (0.1, 0.3, 1.0)
MAX_COLUMNS = 50
_CHUNK_ROWS = 256


@dataclass(frozen=True)
class _Change:
    kind: PerturbationKind
    make_inputs: Callable[[], Inputs]
    column: str | None = None
    strength: float | None = None
    unit: Unit | None = None


def robustness(subject: Subject) -> tuple[Perturbation, ...]:
    """Each change by itself, through every variant's engine. Of a wide table, its first fifty columns."""
    changes = _of_images(subject.sample) if subject.task.modality == "images" else _of_tables(subject.sample)
    return subject.limit.each("robustness", list(changes), lambda change: _perturbation(subject, change))


def _perturbation(subject: Subject, change: _Change) -> Perturbation:
    return Perturbation(
        kind=change.kind,
        column=change.column,
        strength=change.strength,
        unit=change.unit,
        by_variant=subject.degraded(change.make_inputs()),
    )


def _of_images(sample: Sample) -> Iterator[_Change]:
    pixels_NHWC = sample.inputs[IMAGE_INPUT]
    side = min(pixels_NHWC.shape[1:3])
    for deviation in _NOISE_GREY_LEVELS:
        yield _Change("noise", partial(_noisy, pixels_NHWC, deviation), strength=deviation, unit="grey levels")
    for deviation in _strengths(_BLUR_SHARES, side, least=_LEAST_BLUR_PIXELS):
        yield _Change("blur", partial(_blurred, pixels_NHWC, deviation), strength=deviation, unit="pixels")
    for distance in dict.fromkeys(max(1, round(share * side)) for share in _SHIFT_SHARES):
        yield _Change("shift", partial(_shifted, pixels_NHWC, distance), strength=distance, unit="pixels")


def _strengths(shares: tuple[float, ...], side: int, *, least: float) -> list[float]:
    return list(dict.fromkeys(max(least, round(share * side, 2)) for share in shares))


def _noisy(pixels_NHWC: Array, deviation: float) -> Inputs:
    """Gaussian noise, independent in each pixel and channel."""
    rng, noisy_NHWC = generator("noise", deviation), np.empty_like(pixels_NHWC)
    for start in range(0, len(pixels_NHWC), _CHUNK_ROWS):
        chunk = pixels_NHWC[start : start + _CHUNK_ROWS]
        noise = rng.standard_normal(chunk.shape, dtype=np.float32) * np.float32(deviation)
        noisy_NHWC[start : start + _CHUNK_ROWS] = np.rint(np.clip(chunk + noise, 0, 255))
    return {IMAGE_INPUT: noisy_NHWC}


def _blurred(pixels_NHWC: Array, deviation: float) -> Inputs:
    """Gaussian blur along height and width; the border is mirrored."""
    from scipy.ndimage import gaussian_filter

    blurred_NHWC = np.empty_like(pixels_NHWC)
    for start in range(0, len(pixels_NHWC), _CHUNK_ROWS):
        chunk = pixels_NHWC[start : start + _CHUNK_ROWS].astype(np.float32)
        blurred_NHWC[start : start + _CHUNK_ROWS] = np.rint(gaussian_filter(chunk, (0, deviation, deviation, 0)))
    return {IMAGE_INPUT: blurred_NHWC}


def _shifted(pixels_NHWC: Array, distance: int) -> Inputs:
    """Each picture moved up, down, left or right by chance; what comes in repeats the border."""
    height, width = pixels_NHWC.shape[1:3]
    padding = ((0, 0), (distance, distance), (distance, distance), (0, 0))
    directions = np.array([(0, 1), (2, 1), (1, 0), (1, 2)]) * distance
    which_N = generator("shift", distance).integers(0, len(directions), len(pixels_NHWC))
    shifted_NHWC = np.empty_like(pixels_NHWC)
    for index, (top, left) in enumerate(directions.tolist()):
        rows_N = np.flatnonzero(which_N == index)
        padded = np.pad(pixels_NHWC[rows_N], padding, mode="edge")
        shifted_NHWC[rows_N] = padded[:, top : top + height, left : left + width]
    return {IMAGE_INPUT: shifted_NHWC}


def _of_tables(sample: Sample) -> Iterator[_Change]:
    columns = sample.description.features[:MAX_COLUMNS]
    for column in columns:
        yield _Change("missing", partial(_without, sample, column), column.name)
    for column in columns:
        yield _Change("shuffled", partial(with_shuffled, sample, column.name, 0), column.name)
    numbers = [transform for transform in sample.description.transforms if isinstance(transform, NumberTransform)]
    if numbers:
        for deviation in _NOISE_DEVIATIONS:
            make_inputs = partial(_with_noise, sample, numbers, deviation)
            yield _Change("noise", make_inputs, strength=deviation, unit="standard deviations")


def with_shuffled(sample: Sample, column: str, draw: int) -> Inputs:
    """The rows with one column's values in another order."""
    order_N = generator("shuffled", column, draw).permutation(len(sample))
    return sample.with_columns({column: sample.column(column)[order_N]})


def _without(sample: Sample, column: Column) -> Inputs:
    missing_N = (
        np.full(len(sample), np.nan, np.float32) if column.type == "number" else np.full(len(sample), "", dtype=object)
    )
    return sample.with_columns({column.name: missing_N})


def _with_noise(sample: Sample, numbers: Sequence[NumberTransform], deviation: float) -> Inputs:
    return sample.with_columns({number.column: _noisy_numbers(sample, number, deviation) for number in numbers})


def _noisy_numbers(sample: Sample, transform: NumberTransform, deviation: float) -> Array:
    """A missing number stays missing, and none leaves what a float32 holds, also after the mean is taken off."""
    noise_N = generator("noise", transform.column, deviation).standard_normal(len(sample))
    noisy_N = sample.column(transform.column).astype(np.float64) + deviation * transform.scale * noise_N
    limit = LARGEST - abs(transform.mean)
    kept_N: Array = np.clip(noisy_N, -limit, limit).astype(np.float32)
    return kept_N
