"""Confidence intervals of metrics by the bootstrap, from sums that rows contribute to.

Drawing N rows with replacement is drawing how often each row counts. Every metric here is made of sums over rows, so
all resamples are one product of matrices: counts [R, G] times the sums of G groups. Up to 4,096 rows a group is one
row; of more rows each group holds a fixed random share, which changes the intervals' width by about 1 % only.

Where rows have to be sorted by a score (areas, quantiles), scores are put into a bounded number of ranks; with fewer
distinct scores than that a resample's value is exactly that of its rows.

Shapes: N rows, G groups, R resamples, C classes, K sums, T ranks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from windlass.evaluation.config import EvaluateConfig
from windlass.evaluation.documents import Interval
from windlass.tasks.metric_names import CALIBRATION_BINS, ERROR_QUANTILES
from windlass.tasks.metrics import calibration_bins, normalized, surprise_in_nats

Array = np.ndarray[Any, np.dtype[Any]]

_MAX_GROUPS = 4096
_MAX_AREA_RANKS = 256
_MAX_AREA_CELLS = 1280
"""Over all classes together: of ten classes each has 128 ranks."""
_MIN_AREA_RANKS = 32
_MAX_AUC_CLASSES = 50
_MAX_QUANTILE_RANKS = 512
_SEED = 20240229


class Bootstrap:
    """The resamples of N rows; the same for every candidate, so that differences are paired by row."""

    def __init__(self, rows: int, config: EvaluateConfig) -> None:
        rng = np.random.default_rng(_SEED)
        self.rows, self.confidence = rows, config.confidence
        self.groups = min(rows, _MAX_GROUPS)
        self._group_N = np.arange(rows) if rows == self.groups else rng.permutation(rows) % self.groups
        drawn_RG = rng.integers(self.groups, size=(config.bootstrap, self.groups))
        cells_RG = drawn_RG + self.groups * np.arange(config.bootstrap)[:, None]
        counts_RG = np.bincount(cells_RG.ravel(), minlength=cells_RG.size).reshape(cells_RG.shape)
        self._counts_RG, self._short_counts_RG = counts_RG.astype(np.float64), counts_RG.astype(np.float32)

    def counts_by(self, index_N: Array, length: int) -> Array:
        """How many rows of each resample have each index: float64 [R, length]."""
        grouped = np.bincount(self._group_N * length + index_N, minlength=self.groups * length)
        # float32 is exact for counts below 2^24, and twice as fast.
        counts = self._short_counts_RG @ grouped.reshape(self.groups, length).astype(np.float32)
        return counts.astype(np.float64)

    def sums_by(self, index_N: Array, length: int, value_N: Array) -> Array:
        """The sum of a value over the rows of each resample with each index: [R, length]."""
        cells_N = self._group_N * length + index_N
        grouped = np.bincount(cells_N, weights=value_N, minlength=self.groups * length)
        sums: Array = self._counts_RG @ grouped.reshape(self.groups, length)
        return sums

    def sum_of(self, value_N: Array) -> Array:
        """The sum of a value over each resample: [R]."""
        sums_R: Array = self._counts_RG @ np.bincount(self._group_N, weights=value_N, minlength=self.groups)
        return sums_R

    def interval(self, point: float, sample_R: Array) -> Interval:
        return percentile_interval(point, sample_R, self.confidence)


def percentile_interval(point: float, sample_R: Array, confidence: float) -> Interval:
    """Resamples on which the metric is undefined are left out."""
    defined_R = sample_R[np.isfinite(sample_R)]
    if not len(defined_R):
        return Interval(point=point, low=point, high=point)
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined_R, [tail, 1 - tail])
    return Interval(point=point, low=float(low), high=float(high))


def resampled_quality(
    predictions: Array, targets_N: Array, bootstrap: Bootstrap, *, costly: bool = True
) -> dict[str, Array]:
    """Each metric of `Task.quality` on each resample, [R]; NaN where it is undefined.

    Args:
        predictions: finite probabilities [N, C], or values [N].
        targets_N: int64 class indices, or numbers.
        costly: also those for which rows are sorted by a score: areas under curves and quantiles of errors.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        if predictions.ndim == 1:
            errors_N = predictions.astype(np.float64) - targets_N.astype(np.float64)
            found = _of_numbers(errors_N, targets_N.astype(np.float64), bootstrap)
            if costly:
                found |= _quantiles(np.abs(errors_N), {"median_ae": 0.5, **ERROR_QUANTILES}, bootstrap)
            return found
        found = _of_classes(predictions, targets_N, bootstrap)
        return found | _areas(predictions, targets_N, bootstrap) if costly else found


def resampled_classes(predictions_NC: Array, targets_N: Array, bootstrap: Bootstrap) -> dict[str, Array]:
    """`precision`, `recall` and `f1` of each class on each resample, [R, C]; NaN where undefined."""
    with np.errstate(divide="ignore", invalid="ignore"):
        hits_RC, actual_RC, answered_RC = _confusion_sums(predictions_NC, targets_N, bootstrap)
        return {
            "precision": hits_RC / answered_RC,
            "recall": hits_RC / actual_RC,
            "f1": 2 * hits_RC / (actual_RC + answered_RC),
        }


def _of_numbers(errors_N: Array, targets_N: Array, bootstrap: Bootstrap) -> dict[str, Array]:
    centered_N = targets_N - targets_N.mean()
    count_R = bootstrap.sum_of(np.ones(len(targets_N)))
    squares_R = bootstrap.sum_of(errors_N**2)
    variation_R = bootstrap.sum_of(centered_N**2) - bootstrap.sum_of(centered_N) ** 2 / count_R
    variation_R[variation_R <= 1e-12 * (centered_N**2).sum()] = np.nan
    return {
        "r2": 1 - squares_R / variation_R,
        "mse": squares_R / count_R,
        "rmse": np.sqrt(squares_R / count_R),
        "mae": bootstrap.sum_of(np.abs(errors_N)) / count_R,
    }


def _quantiles(value_N: Array, shares: dict[str, float], bootstrap: Bootstrap) -> dict[str, Array]:
    """Quantiles of a value on each resample, between two rows the line that NumPy draws.

    Of more than `_MAX_QUANTILE_RANKS` distinct values, those of one rank are taken as evenly spread between its ends.
    """
    levels, rank_N = np.unique(value_N, return_inverse=True)
    step = -(-len(levels) // _MAX_QUANTILE_RANKS)
    low_T, high_T = levels[::step], np.append(levels[step - 1 :: step], levels[-1:])[: -(-len(levels) // step)]
    count_RT = bootstrap.counts_by(rank_N // step, len(low_T))
    until_RT = np.cumsum(count_RT, axis=1)

    def at(place_R: Array) -> Array:
        """The value in this place of the sorted rows, counted from 0."""
        t_R = (until_RT <= place_R[:, None] + 1e-9).sum(axis=1)
        rows_R = np.arange(len(t_R))
        inside_R = (place_R - until_RT[rows_R, t_R] + count_RT[rows_R, t_R] + 0.5) / count_RT[rows_R, t_R]
        value_R: Array = low_T[t_R] + inside_R * (high_T[t_R] - low_T[t_R])
        return value_R

    found = {}
    for name, share in shares.items():
        place_R = share * (until_RT[:, -1] - 1)
        below_R, above_R = at(np.floor(place_R)), at(np.ceil(place_R))
        found[name] = below_R + (place_R - np.floor(place_R)) * (above_R - below_R)
    return found


def _of_classes(predictions_NC: Array, targets_N: Array, bootstrap: Bootstrap) -> dict[str, Array]:
    proba_NC = normalized(predictions_NC)
    num_classes = proba_NC.shape[1]
    hits_RC, actual_RC, answered_RC = _confusion_sums(predictions_NC, targets_N, bootstrap)
    count_R = actual_RC.sum(axis=1)
    recall_R = _mean_over_seen(hits_RC / actual_RC, actual_RC)
    squares_N = (proba_NC**2).sum(axis=1) - 2 * proba_NC[np.arange(len(targets_N)), targets_N] + 1
    bin_N, confidence_N = calibration_bins(proba_NC)
    right_N = proba_NC.argmax(axis=1) == targets_N
    gap_RK = bootstrap.sums_by(bin_N, CALIBRATION_BINS, right_N - confidence_N)
    return {
        "accuracy": hits_RC.sum(axis=1) / count_R,
        "balanced_accuracy": recall_R,
        "precision_macro": _mean_over_seen(hits_RC / np.maximum(answered_RC, 1), actual_RC),
        "recall_macro": recall_R,
        "f1_macro": _mean_over_seen(2 * hits_RC / (actual_RC + answered_RC), actual_RC),
        "log_loss": bootstrap.sum_of(surprise_in_nats(proba_NC, targets_N)) / count_R,
        "brier": bootstrap.sum_of(squares_N) / count_R / (2 if num_classes == 2 else 1),
        "calibration_error": np.abs(gap_RK).sum(axis=1) / count_R,
    }


def _confusion_sums(predictions_NC: Array, targets_N: Array, bootstrap: Bootstrap) -> tuple[Array, Array, Array]:
    """Right answers, rows and answers of each class on each resample: three of [R, C]."""
    num_classes = predictions_NC.shape[1]
    predicted_N = predictions_NC.argmax(axis=1)
    right_N = np.where(predicted_N == targets_N, targets_N, num_classes)
    hits_RC = bootstrap.counts_by(right_N, num_classes + 1)[:, :-1]
    return hits_RC, bootstrap.counts_by(targets_N, num_classes), bootstrap.counts_by(predicted_N, num_classes)


def _mean_over_seen(value_RC: Array, actual_RC: Array) -> Array:
    seen_RC = actual_RC > 0
    mean_R: Array = np.where(seen_RC, value_RC, 0).sum(axis=1) / seen_RC.sum(axis=1)
    return mean_R


def _areas(predictions_NC: Array, targets_N: Array, bootstrap: Bootstrap) -> dict[str, Array]:
    """`roc_auc` and `pr_auc`: one against the rest, averaged over the classes that a resample holds."""
    num_classes = predictions_NC.shape[1]
    classes = (range(1, 2) if num_classes == 2 else range(num_classes))[:_MAX_AUC_CLASSES]
    ranks = max(_MIN_AREA_RANKS, min(_MAX_AREA_RANKS, _MAX_AREA_CELLS // len(classes)))
    areas = [_area(predictions_NC[:, index], targets_N == index, ranks, bootstrap) for index in classes]
    found = {}
    for name, area_CR in zip(("roc_auc", "pr_auc"), np.array(areas).transpose(1, 0, 2), strict=True):
        defined_CR = np.isfinite(area_CR)
        found[name] = np.where(defined_CR, area_CR, 0).sum(axis=0) / defined_CR.sum(axis=0)
    return found


def _area(score_N: Array, positive_N: Array, max_ranks: int, bootstrap: Bootstrap) -> Array:
    """Both areas on each resample, [2, R], over scores in at most `max_ranks` ranks of equal size.

    Coarser ranks shift the areas a little; they are shifted back by what they do to the whole sample.
    """
    levels, level_N = np.unique(score_N, return_inverse=True)
    step = -(-len(levels) // max_ranks)
    num_ranks = -(-len(levels) // step)
    cell_N = level_N // step * 2 + positive_N
    areas_2R = _areas_of_cells(bootstrap.counts_by(cell_N, num_ranks * 2).reshape(-1, num_ranks, 2))
    if step > 1:
        coarse = np.bincount(cell_N, minlength=num_ranks * 2).reshape(1, num_ranks, 2).astype(np.float64)
        fine = np.bincount(level_N * 2 + positive_N, minlength=len(levels) * 2).reshape(1, -1, 2).astype(np.float64)
        areas_2R = np.clip(areas_2R + _areas_of_cells(fine) - _areas_of_cells(coarse), 0, 1)
    return areas_2R


def _areas_of_cells(cells_RT2: Array) -> Array:
    """ROC area as pairs won, ties counting half (Mann and Whitney), and average precision: [2, R]."""
    negative_RT, positive_RT = cells_RT2[..., 0], cells_RT2[..., 1]
    positives_R, negatives_R = positive_RT.sum(axis=1), negative_RT.sum(axis=1)
    below_RT = np.cumsum(negative_RT, axis=1) - negative_RT / 2
    roc_R = (positive_RT * below_RT).sum(axis=1) / (positives_R * negatives_R)
    found_RT = np.cumsum(positive_RT[:, ::-1], axis=1)
    taken_RT = found_RT + np.cumsum(negative_RT[:, ::-1], axis=1)
    precision_RT = found_RT / np.maximum(taken_RT, 1)
    pr_R = (positive_RT[:, ::-1] * precision_RT).sum(axis=1) / np.where(negatives_R > 0, positives_R, 0)
    return np.stack([roc_R, pr_R])
