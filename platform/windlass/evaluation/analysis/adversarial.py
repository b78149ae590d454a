"""Adversarial examples: made with the gradients of the uncompressed torch model, tried on every served variant.

FGSM after Goodfellow, Shlens and Szegedy (2014), "Explaining and harnessing adversarial examples"; PGD after Madry et
al. (2017), "Towards deep learning models resistant to adversarial attacks": a random start, then steps of 2.5 times
the radius over their number, projected onto the ball and onto the valid range after each. A library's PGD (captum
0.9) takes gradients below 1e-6 for zero, which stops at confident answers, and one bound for all columns.

Shapes: B rows of a batch, N attacked rows, D features as encoded, H height, W width, C channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from typing_extensions import override

from windlass.data.description import DatasetDescription, NumberTransform, PixelsTransform
from windlass.data.features import IMAGE_INPUT, encode_batch, learned_targets, transform_width
from windlass.evaluation.analysis.documents import Adversarial, Attack, AttackMethod, Unit
from windlass.evaluation.analysis.sample import Array, Inputs, Sample, generator
from windlass.evaluation.analysis.subject import Subject
from windlass.evaluation.analysis.time_limit import TimeLimit
from windlass.models import load
from windlass.models.preprocess import PixelScaling
from windlass.tasks import Task

_PGD_STEPS = 10
_BATCH_ROWS = 128
_METHODS: tuple[AttackMethod, ...] = ("fgsm", "pgd", "random")


def adversarial(subject: Subject, model: Path, reference: pa.Table | None) -> Adversarial | None:
    """Attack the subject's whole sample; None where it holds no number, or too few rows for the main metric.

    Args:
        model: directory of the trained model.
        reference: rows of train, whose columns' ranges the changed numbers keep to; None of images.
    """
    if not subject.is_defined:
        return None
    _, network = load(model)
    space: _Space
    if reference is None:
        space = PixelSpace(subject.sample)
    else:
        space = NumberSpace(subject.sample, reference)
        if not space.numbers:
            return None
    attacker = Attacker(network, space, subject.task, subject.sample, subject.limit)

    def attack(method: AttackMethod, strength: float) -> Attack:
        by_variant = subject.degraded(space.to_inputs(attacker.changed(method, strength)))
        return Attack(method=method, strength=strength, unit=space.unit, by_variant=by_variant)

    planned = list(product(_METHODS, space.strengths))
    attacks = subject.limit.each("adversarial", planned, lambda one: attack(*one))
    return Adversarial(rows=len(subject.sample), attacks=attacks)


class _Space(ABC):
    """Where rows are changed: float32 points, the part of them that may move, and within which bounds."""

    strengths: tuple[float, ...]
    unit: Unit
    points: Array
    """[N, ...], what the gradients are of."""

    @abstractmethod
    def network_inputs(self, points: Tensor) -> Tensor:
        """What the network takes, differentiable."""

    @abstractmethod
    def bounds(self, rows: slice) -> tuple[Tensor, Tensor]:
        """The least and the greatest value of each coordinate."""

    @abstractmethod
    def mask(self, rows: slice) -> Tensor:
        """1 where a coordinate may change, else 0."""

    @abstractmethod
    def to_inputs(self, points: Array) -> Inputs:
        """Changed points as the engines take them."""


class PixelSpace(_Space):
    """Grey levels of each channel, 0 to 255; what is served are whole ones."""

    strengths = (4.0, 12.0, 32.0)
    unit: Unit = "grey levels"

    def __init__(self, sample: Sample) -> None:
        (transform,) = (t for t in sample.description.transforms if isinstance(t, PixelsTransform))
        self._scaling = PixelScaling(transform.mean, transform.std)
        self.points = sample.inputs[IMAGE_INPUT].astype(np.float32)

    @override
    def network_inputs(self, points: Tensor) -> Tensor:
        scaled: Tensor = self._scaling(points)
        return scaled

    @override
    def bounds(self, rows: slice) -> tuple[Tensor, Tensor]:
        return torch.tensor(0.0), torch.tensor(255.0)

    @override
    def mask(self, rows: slice) -> Tensor:
        return torch.ones(1)

    @override
    def to_inputs(self, points: Array) -> Inputs:
        # The strengths are whole grey levels, so rounding does not leave the ball.
        return {IMAGE_INPUT: np.rint(points).astype(np.uint8)}


class NumberSpace(_Space):
    """Numbers in standard deviations of train, within the range of train; categories and missing values stay."""

    strengths = (0.05, 0.1, 0.25)
    unit: Unit = "standard deviations"

    def __init__(self, sample: Sample, reference: pa.Table) -> None:
        self._sample = sample
        self.points = encode_batch(sample.description, sample.table)
        self.numbers = list(_number_positions(sample.description))
        self._mask = np.zeros_like(self.points)
        self._low, self._high = self.points.copy(), self.points.copy()
        for position, transform in self.numbers:
            self._mask[:, position] = ~np.isnan(sample.column(transform.column))
            least, greatest = _range(reference, transform)
            # A row may lie outside the range already: it is not moved back by force.
            self._low[:, position] = np.minimum(self.points[:, position], least)
            self._high[:, position] = np.maximum(self.points[:, position], greatest)

    @override
    def network_inputs(self, points: Tensor) -> Tensor:
        return points

    @override
    def bounds(self, rows: slice) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(self._low[rows]), torch.from_numpy(self._high[rows])

    @override
    def mask(self, rows: slice) -> Tensor:
        return torch.from_numpy(self._mask[rows])

    @override
    def to_inputs(self, points: Array) -> Inputs:
        columns = {}
        for position, transform in self.numbers:
            moved_N = (points[:, position] * transform.scale + transform.mean).astype(np.float32)
            before_N = self._sample.column(transform.column)
            columns[transform.column] = np.where(self._mask[:, position] > 0, moved_N, before_N)
        return self._sample.with_columns(columns)


def _number_positions(description: DatasetDescription) -> Iterator[tuple[int, NumberTransform]]:
    """Where in the encoded row each number stands."""
    position = 0
    for transform in description.transforms:
        if isinstance(transform, NumberTransform):
            yield position, transform
        position += transform_width(transform)


def _range(reference: pa.Table, transform: NumberTransform) -> tuple[float, float]:
    """Of a column of train, as encoded; a column without any value has no room."""
    values = reference.column(transform.column).drop_null().to_numpy()
    if not len(values):
        return 0.0, 0.0
    return (values.min() - transform.mean) / transform.scale, (values.max() - transform.mean) / transform.scale


class Attacker:
    """The uncompressed network's loss, as a function of points."""

    def __init__(self, network: nn.Module, space: _Space, task: Task, sample: Sample, limit: TimeLimit) -> None:
        self._network, self._space, self._task = network.requires_grad_(False), space, task
        self._limit = limit
        self._targets_N = torch.tensor(learned_targets(sample.description, sample.targets))

    def changed(self, method: AttackMethod, strength: float) -> Array:
        """The points that the method makes of the sample's, [N, ...].

        Raises:
            TimeIsOverError: before the last gradient.
        """
        random = torch.Generator().manual_seed(int(generator("attack", method, strength).integers(2**31)))
        starts = range(0, len(self._targets_N), _BATCH_ROWS)
        parts = [self._batch(method, strength, slice(start, start + _BATCH_ROWS), random) for start in starts]
        return torch.cat(parts).numpy()

    def _batch(self, method: AttackMethod, strength: float, rows: slice, random: torch.Generator) -> Tensor:
        points, mask = torch.from_numpy(self._space.points[rows]), self._space.mask(rows)
        low, high = self._space.bounds(rows)
        low, high = torch.maximum(points - strength, low), torch.minimum(points + strength, high)
        if method == "random":
            signs = torch.randint(0, 2, points.shape, generator=random) * 2 - 1
            return torch.clamp(points + strength * signs * mask, low, high)
        if method == "fgsm":
            return torch.clamp(points + strength * self._ascent(points, rows) * mask, low, high)
        step = 2.5 * strength / _PGD_STEPS
        start = (torch.rand(points.shape, generator=random) * 2 - 1) * strength
        moved = torch.clamp(points + start * mask, low, high)
        for _ in range(_PGD_STEPS):
            moved = torch.clamp(moved + step * self._ascent(moved, rows) * mask, low, high)
        return moved

    def _ascent(self, points: Tensor, rows: slice) -> Tensor:
        """The sign of the loss's gradient: where each coordinate has to go to make the answer worse."""
        self._limit.check()
        points = points.clone().requires_grad_()
        outputs = self._network(self._space.network_inputs(points))
        loss = self._task.loss(outputs, self._targets_N[rows], None).sum()
        (gradient,) = torch.autograd.grad(loss, points, allow_unused=True, materialize_grads=True)
        return gradient.sign()
