"""Columns that alone give away the target: fitted on one half of a sample, scored on the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

SAMPLE_ROWS = 20_000
MIN_ROWS = 50
_BINS = 256
_SUSPICIOUS = {"class": 0.999, "number": 0.9995}
_MAX_BASELINE = 0.98


def suspected_leakage(
    columns: Mapping[str, Sequence[Any]], targets: Sequence[Any], target_kind: Literal["class", "number"]
) -> dict[str, float]:
    """Score each column by itself; those that predict almost perfectly, with their scores.

    Args:
        columns: floats (None or NaN where missing) or texts by column; all of one length.
        targets: class names or numbers of the same rows.

    Returns:
        Accuracy or R² on the half of the rows that was not fitted. Empty where there are too few rows to tell, or
        where guessing the most frequent class is nearly as good.
    """
    rows = len(targets)
    if rows < MIN_ROWS:
        return {}
    if target_kind == "class":
        y_NC = _one_hot(targets)
        if y_NC.mean(axis=0).max() > _MAX_BASELINE:
            return {}
    else:
        y_NC = np.asarray(targets, np.float64)[:, None]
        if np.ptp(y_NC) == 0:
            return {}
    scores = {name: _score(np.asarray(values, dtype=object), y_NC, target_kind) for name, values in columns.items()}
    return {name: score for name, score in scores.items() if score >= _SUSPICIOUS[target_kind]}


def _one_hot(targets: Sequence[Any]) -> NDArray[np.float64]:
    names, index_N = np.unique(np.asarray(targets, dtype=str), return_inverse=True)
    return np.eye(len(names))[index_N]


def _score(values: NDArray[Any], y_NC: NDArray[np.float64], kind: Literal["class", "number"]) -> float:
    numeric = not any(isinstance(value, str) for value in values)
    groups_N = _bin_numbers(values) if numeric else _codes(values)
    score = _score_groups(groups_N, y_NC, kind)
    if kind == "number" and numeric:
        score = max(score, _linear(np.asarray(values, np.float64), y_NC[:, 0]))
    return score


def _bin_numbers(values: NDArray[Any]) -> NDArray[np.int64]:
    x_N = np.asarray(values, np.float64)
    distinct = np.unique(x_N[~np.isnan(x_N)])
    if len(distinct) > _BINS:
        distinct = np.unique(np.quantile(x_N[~np.isnan(x_N)], np.linspace(0, 1, _BINS + 1)[1:-1]))
    return np.where(np.isnan(x_N), -1, np.searchsorted(distinct, x_N, side="right")) + 1


def _codes(values: NDArray[Any]) -> NDArray[np.int64]:
    texts = np.asarray(["" if value is None else value for value in values], dtype=str)
    return np.asarray(np.unique(texts, return_inverse=True)[1], np.int64)


def _score_groups(groups_N: NDArray[np.int64], y_NC: NDArray[np.float64], kind: str) -> float:
    fitted, held = slice(0, None, 2), slice(1, None, 2)
    count = int(groups_N.max()) + 1
    totals_GC = np.zeros((count, y_NC.shape[1]))
    np.add.at(totals_GC, groups_N[fitted], y_NC[fitted])
    sizes_G = np.bincount(groups_N[fitted], minlength=count)
    overall_C = y_NC[fitted].mean(axis=0)
    means_GC = np.where(sizes_G[:, None] > 0, totals_GC / np.maximum(sizes_G, 1)[:, None], overall_C)
    predicted_MC, actual_MC = means_GC[groups_N[held]], y_NC[held]
    if kind == "class":
        return float((predicted_MC.argmax(axis=1) == actual_MC.argmax(axis=1)).mean())
    return _r2(predicted_MC[:, 0], actual_MC[:, 0])


def _linear(x_N: NDArray[np.float64], y_N: NDArray[np.float64]) -> float:
    present_N = ~np.isnan(x_N)
    if present_N.mean() < _SUSPICIOUS["number"] or np.ptp(x_N[present_N]) == 0 or np.ptp(y_N[present_N]) == 0:
        return 0.0
    return float(np.corrcoef(x_N[present_N], y_N[present_N])[0, 1] ** 2)


def _r2(predicted_N: NDArray[np.float64], actual_N: NDArray[np.float64]) -> float:
    spread = float(((actual_N - actual_N.mean()) ** 2).sum())
    return 1 - float(((actual_N - predicted_N) ** 2).sum()) / spread if spread > 0 else 0.0
