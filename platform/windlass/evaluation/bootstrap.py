"""Confidence intervals of metrics by the bootstrap, from sums that rows contribute to.

Drawing N rows with replacement is drawing how often each row counts. Every metric here is made of sums over rows, so
all resamples are one product of matrices: counts [R, G] times the sums of G groups. Up to 4,096 rows a group is one
row; of more rows each group holds a fixed random share, which changes the intervals' width by about 1 % only.

Shapes: N rows, G groups, R resamples, C classes, K sums, T thresholds.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from windlass.evaluation.config import EvaluateConfig
from windlass.evaluation.documents import Interval

Array = np.ndarray[Any, np.dtype[Any]]

_MAX_GROUPS = 4096
_MAX_THRESHOLDS = 256
_MAX_AUC_CLASSES = 50
_SEED = 20240229


class Bootstrap:
    """The resamples of N rows; the same for every candidate, so that differences are paired by row."""

    def __init__(self, rows: int, config: EvaluateConfig) -> None:
        rng = np.random.default_rng(_SEED)
        self.rows, self.confidence = rows, config.confidence
        self.groups = min(rows, _MAX_GROUPS)
        self._group_N = np.arange(rows) if rows == self.groups else rng.permutation(rows) % self.groups
        even = np.full(self.groups, 1 / self.groups)
        self._counts_RG = rng.multinomial(self.groups, even, size=config.bootstrap).astype(np.float64)

    def sums_by(self, index_N: Array, length: int) -> Array:
        """How many rows of each resample have each index: [R, length]."""
        grouped = np.bincount(self._group_N * length + index_N, minlength=self.groups * length)
        # float32 is exact for counts below 2^24, and twice as fast.
        counts = self._counts_RG.astype(np.float32) @ grouped.reshape(self.groups, length).astype(np.float32)
        return counts.astype(np.float64)

    def sum_of(self, value_N: Array) -> Array:
        """The sum of a value over each resample: [R]."""
        sums_R: Array = self._counts_RG @ np.bincount(self._group_N, weights=value_N, minlength=self.groups)
        return sums_R

    def interval(self, point: float, sample_R: Array) -> Interval:
        """The percentile interval; resamples on which the metric is undefined are left out."""
        defined_R = sample_R[np.isfinite(sample_R)]
        if not len(defined_R):
            return Interval(point=point, low=point, high=point)
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(defined_R, [tail, 1 - tail])
        return Interval(point=point, low=float(low), high=float(high))


def resampled_quality(predictions: Array, targets_N: Array, bootstrap: Bootstrap) -> dict[str, Array]:
    """Each metric of `Task.quality` on each resample, [R]; NaN where it is undefined.

    Args:
        predictions: probabilities [N, C], or values [N].
        targets_N: int64 class indices, or numbers.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        if predictions.ndim == 1:
            return _of_numbers(predictions.astype(np.float64), targets_N.astype(np.float64), bootstrap)
        return _of_classes(predictions, targets_N, bootstrap)


def _of_numbers(predictions_N: Array, targets_N: Array, bootstrap: Bootstrap) -> dict[str, Array]:
    errors_N, centered_N = predictions_N - targets_N, targets_N - targets_N.mean()
    count_R = bootstrap.sum_of(np.ones(len(targets_N)))
    squares_R = bootstrap.sum_of(errors_N**2)
    spread_R = bootstrap.sum_of(centered_N**2) - bootstrap.sum_of(centered_N) ** 2 / count_R
    return {
        "r2": 1 - squares_R / spread_R,
        "mae": bootstrap.sum_of(np.abs(errors_N)) / count_R,
        "rmse": np.sqrt(squares_R / count_R),
    }


def _of_classes(predictions_NC: Array, targets_N: Array, bootstrap: Bootstrap) -> dict[str, Array]:
    num_classes = predictions_NC.shape[1]
    predicted_N = predictions_NC.argmax(axis=1)
    actual_RC = bootstrap.sums_by(targets_N, num_classes)
    guessed_RC = bootstrap.sums_by(predicted_N, num_classes)
    hits_RC = bootstrap.sums_by(np.where(predicted_N == targets_N, targets_N, num_classes), num_classes + 1)[:, :-1]
    count_R = actual_RC.sum(axis=1)
    chosen_N = predictions_NC[np.arange(len(targets_N)), targets_N].astype(np.float64)
    nats_N = -np.log(np.clip(chosen_N, 1e-12, 1.0))
    return {
        "accuracy": hits_RC.sum(axis=1) / count_R,
        "balanced_accuracy": _mean_over_seen(hits_RC / actual_RC, actual_RC),
        "f1_macro": _mean_over_seen(2 * hits_RC / (actual_RC + guessed_RC), actual_RC),
        "roc_auc": _roc_auc(predictions_NC, targets_N, bootstrap),
        "log_loss": bootstrap.sum_of(nats_N) / count_R,
    }


def _mean_over_seen(value_RC: Array, actual_RC: Array) -> Array:
    seen_RC = actual_RC > 0
    mean_R: Array = np.where(seen_RC, value_RC, 0).sum(axis=1) / seen_RC.sum(axis=1)
    return mean_R


def _roc_auc(predictions_NC: Array, targets_N: Array, bootstrap: Bootstrap) -> Array:
    """One against the rest, averaged over the classes that a resample holds."""
    num_classes = predictions_NC.shape[1]
    classes = range(1, 2) if num_classes == 2 else range(num_classes)
    areas = [_area(predictions_NC[:, index], targets_N == index, bootstrap) for index in classes[:_MAX_AUC_CLASSES]]
    area_CR = np.array(areas)
    defined_CR = np.isfinite(area_CR)
    mean_R: Array = np.where(defined_CR, area_CR, 0).sum(axis=0) / defined_CR.sum(axis=0)
    return mean_R


def _area(score_N: Array, positive_N: Array, bootstrap: Bootstrap) -> Array:
    """Mann-Whitney: pairs won, ties counting half, over scores in at most `_MAX_THRESHOLDS` ranks of equal size.

    Coarser ranks shift the area a little; it is shifted back by what they do to the whole sample.
    """
    levels = np.unique(score_N)
    step = -(-len(levels) // _MAX_THRESHOLDS)
    rank_N = np.searchsorted(levels, score_N) // step
    thresholds = int(rank_N.max()) + 1
    cell_N = rank_N * 2 + positive_N
    cells_RT2 = bootstrap.sums_by(cell_N, thresholds * 2).reshape(-1, thresholds, 2)
    area_R = _area_of_cells(cells_RT2)
    if step > 1:
        coarse = np.bincount(cell_N, minlength=thresholds * 2).reshape(1, thresholds, 2).astype(np.float64)
        fine = np.bincount(np.searchsorted(levels, score_N) * 2 + positive_N, minlength=len(levels) * 2)
        shift = _area_of_cells(fine.reshape(1, -1, 2).astype(np.float64)) - _area_of_cells(coarse)
        area_R = np.clip(area_R + shift, 0, 1)
    return area_R


def _area_of_cells(cells_RT2: Array) -> Array:
    negative_RT, positive_RT = cells_RT2[..., 0], cells_RT2[..., 1]
    below_RT = np.cumsum(negative_RT, axis=1) - negative_RT / 2
    pairs_R = negative_RT.sum(axis=1) * positive_RT.sum(axis=1)
    area_R: Array = (positive_RT * below_RT).sum(axis=1) / pairs_R
    return area_R
