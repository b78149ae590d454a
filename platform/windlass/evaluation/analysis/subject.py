"""Variants under analysis: their answers to a sample as it is and to changed rows, with intervals.

Shapes: N rows of the sample, R resamples, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

import numpy as np

from windlass.evaluation.analysis.documents import Degraded
from windlass.evaluation.analysis.sample import Array, Inputs, Sample
from windlass.evaluation.analysis.time_limit import TimeLimit
from windlass.evaluation.bootstrap import Bootstrap, resampled_quality
from windlass.evaluation.config import EvaluateConfig
from windlass.evaluation.documents import Interval
from windlass.evaluation.errors import UndefinedMetricError
from windlass.progress import Tracker
from windlass.tasks import Task
from windlass.variants.engines import Engine

BATCH_ROWS = 32
"""The largest batch at which candidates are measured: what is not batch-invariant answers here as it did there."""


class Subject:
    """A sample, and the variants that answer it.

    Attributes:
        answers: of each variant to the sample as it is: probabilities [N, C] or values [N].
        errors: of each variant, float64 [N]: 1 for a wrong class, or the absolute error.
    """

    def __init__(
        self,
        task: Task,
        sample: Sample,
        engines: Mapping[str, Engine],
        config: EvaluateConfig,
        bar: Tracker,
        limit: TimeLimit,
    ) -> None:
        self.task, self.sample, self.engines, self.limit, self._bar = task, sample, engines, limit, bar
        self.bootstrap = Bootstrap(len(sample), config)
        self.answers = {name: np.concatenate(list(self._answers(name, sample.inputs))) for name in engines}
        self.errors = {name: row_errors(answers, sample.targets) for name, answers in self.answers.items()}
        self._clean_R = {name: self.resampled(answers) for name, answers in self.answers.items()}

    def predict(self, name: str, inputs: Inputs) -> Array:
        """A variant's answers to some rows, in batches as served: probabilities [N, C] or values [N].

        Raises:
            TimeIsOverError: before the last batch.
        """
        answers = []
        for batch in self._answers(name, inputs):
            self.limit.check()
            answers.append(batch)
        return np.concatenate(answers)

    def _answers(self, name: str, inputs: Inputs) -> Iterator[Array]:
        """Batch by batch, however long it takes."""
        for start in range(0, len(next(iter(inputs.values()))), BATCH_ROWS):
            batch = {key: tensor[start : start + BATCH_ROWS] for key, tensor in inputs.items()}
            answers_B = next(iter(self.engines[name].predict(batch).values()))
            self._bar.advance(len(answers_B))
            yield answers_B

    def clean(self) -> dict[str, Interval]:
        """The main metric of each variant.

        Raises:
            UndefinedMetricError: it has no value on these rows.
        """
        if not self.is_defined:
            raise UndefinedMetricError(self.task.metric, len(self.sample))
        points = {name: self.point(answers) for name, answers in self.answers.items()}
        return {name: self.bootstrap.interval(point, self._clean_R[name]) for name, point in points.items()}

    @property
    def is_defined(self) -> bool:
        """Whether the main metric has a value on these rows."""
        return all(np.isfinite(self.point(answers)) for answers in self.answers.values())

    def degraded(self, inputs: Inputs) -> dict[str, Degraded]:
        """Quality of each variant on changed rows with the sample's targets, and the paired drop."""
        found = {}
        for name in self.engines:
            answers = self.predict(name, inputs)
            point, sample_R = self.point(answers), self.resampled(answers)
            found[name] = Degraded(
                quality=self.bootstrap.interval(point, sample_R),
                drop=self.bootstrap.interval(self.drop(name, point), self.drops(name, sample_R)),
            )
        return found

    def point(self, answers: Array) -> float:
        """The main metric of some answers to the sample."""
        return self.task.epoch_quality(answers, self.sample.targets)[self.task.metric]

    def drop(self, name: str, point: float) -> float:
        """How much worse than the variant's answers to the sample as it is; positive is worse."""
        return self._sign * (self.point(self.answers[name]) - point)

    def drops(self, name: str, sample_R: Array) -> Array:
        """The same on each resample: [R]."""
        drops_R: Array = self._sign * (self._clean_R[name] - sample_R)
        return drops_R

    def resampled(self, answers: Array) -> Array:
        """The main metric on each resample, [R]: one sum where the metric is one, else by all metrics at once."""
        targets_N = self.sample.targets
        if self.task.metric == "accuracy":
            hits_R: Array = self.bootstrap.sum_of((answers.argmax(axis=1) == targets_N).astype(np.float64))
            return hits_R / self._count
        if self.task.metric == "r2":
            squares_R = self.bootstrap.sum_of((answers.astype(np.float64) - targets_N) ** 2)
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.asarray(1 - squares_R / self._spread)
        return resampled_quality(answers, targets_N, self.bootstrap)[self.task.metric]

    def mean_by_resample(self, values_N: Array, mask_N: Array | None = None) -> Array:
        """The mean of a value over the masked rows of each resample: [R], NaN where none is drawn."""
        if mask_N is None:
            return np.asarray(self.bootstrap.sum_of(values_N) / self._count)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self.bootstrap.sum_of(values_N * mask_N) / self.bootstrap.sum_of(mask_N.astype(float)))

    @property
    def _sign(self) -> int:
        return 1 if self.task.higher_is_better else -1

    @cached_property
    def _count(self) -> Array:
        return self.bootstrap.sum_of(np.ones(len(self.sample)))

    @cached_property
    def _spread(self) -> Array:
        targets_N = self.sample.targets.astype(np.float64)
        centered_N = targets_N - targets_N.mean()
        spread_R: Array = self.bootstrap.sum_of(centered_N**2) - self.bootstrap.sum_of(centered_N) ** 2 / self._count
        return spread_R


def row_errors(answers: Array, targets_N: Array) -> Array:
    """float64 [N]: 1 for a wrong class and 0 for a right one, or the absolute error of a number."""
    if answers.ndim == 1:
        return np.abs(answers.astype(np.float64) - targets_N)
    wrong_N: Array = (answers.argmax(axis=1) != targets_N).astype(np.float64)
    return wrong_N
