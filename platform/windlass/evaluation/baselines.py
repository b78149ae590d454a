"""Trivial models of the same data: one that a trained model does not beat was not worth its training.

The most frequent class or the mean of train, and a linear model on the features as the network sees them. The linear
model takes a bounded sample of train and few steps: it is a yardstick, not a rival.

Shapes: N rows, D features, C classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from windlass.data.bundle import Bundle
from windlass.data.description import LABEL_COLUMN, DatasetDescription, SplitName
from windlass.data.features import encode_batch, targets
from windlass.evaluation.measure import chunk_rows
from windlass.progress import track
from windlass.schema import Document
from windlass.tasks import get_task

Array = np.ndarray[Any, np.dtype[Any]]
BaselineName = Literal["majority", "mean", "linear"]

BASELINES_NAME = "baselines.json"
_PREDICTIONS_NAME = "baselines.npz"
_MAX_TRAIN_ROWS = 20_000
_MAX_TRAIN_NUMBERS = 4_000_000
"""Rows times features: 20,000 rows of 200 features, 5,100 images of 28x28 pixels."""
_MAX_WORK = 30_000_000
"""Rows times features times classes: what a step of the linear classifier multiplies."""
_MAX_IMAGE_SIDE = 32
"""Larger images are averaged down to at most this: a linear model gains nothing from more."""
_MAX_STEPS = 50
_SHRINKAGE = 1.0
_TARGET_ROWS = 1 << 20
_SEED = 0


class FittedBaselines(Document):
    """`baselines.json`: on how many rows of train each trivial model was fitted."""

    format_version: Literal[1] = 1
    train_rows: dict[BaselineName, int]


@dataclass(frozen=True)
class BaselineAnswers:
    """What a trivial model answers to each row of a split: probabilities [N, C] or values [N]."""

    name: BaselineName
    predictions: Array
    train_rows: int


def measure_baselines(dataset: Path, output: Path, *, task: str, split: SplitName) -> None:
    """Fit the trivial models on train and write their answers to the rows of `split`, in the order of the bundle."""
    bundle = Bundle.open(dataset)
    with track(f"fitting trivial models for {split}", total=2, unit="models") as bar:
        fit = _fit_classes if get_task(task).target_kind == "class" else _fit_numbers
        found = []
        for answers in fit(bundle, split):
            found.append(answers)
            bar.advance()
    np.savez_compressed(output / _PREDICTIONS_NAME, **{str(answers.name): answers.predictions for answers in found})  # type: ignore[arg-type]
    fitted = FittedBaselines(train_rows={answers.name: answers.train_rows for answers in found})
    fitted.write(output / BASELINES_NAME)


def read_baselines(directory: Path) -> tuple[BaselineAnswers, ...]:
    """What `measure_baselines` wrote.

    Raises:
        CorruptedError: it is not of this form.
    """
    train_rows = FittedBaselines.read(directory / BASELINES_NAME).train_rows
    with np.load(directory / _PREDICTIONS_NAME, allow_pickle=False) as arrays:
        return tuple(BaselineAnswers(name, arrays[name], rows) for name, rows in train_rows.items())


def _fit_classes(bundle: Bundle, split: SplitName) -> Iterator[BaselineAnswers]:
    from sklearn.linear_model import LogisticRegression

    description = bundle.description
    assert description.class_names is not None
    num_classes, rows = len(description.class_names), description.rows[split]
    train_N = _train_targets(bundle)
    shares_C = np.bincount(train_N, minlength=num_classes) / len(train_N)
    yield BaselineAnswers("majority", np.tile(shares_C.astype(np.float32), (rows, 1)), len(train_N))

    features_ND, targets_N = _train_sample(bundle, train_N, num_classes)
    predictions_NC = np.zeros((rows, num_classes), np.float32)
    present = np.unique(targets_N)
    if len(present) == 1:
        predictions_NC[:, present] = 1
    else:
        model = LogisticRegression(C=_SHRINKAGE, max_iter=_MAX_STEPS)
        _fit(model, features_ND, targets_N)
        predictions_NC[:, present] = _predicted(bundle, split, model.predict_proba)
    yield BaselineAnswers("linear", predictions_NC, len(targets_N))


def _fit_numbers(bundle: Bundle, split: SplitName) -> Iterator[BaselineAnswers]:
    from sklearn.linear_model import Ridge

    train_N = _train_targets(bundle)
    yield BaselineAnswers("mean", np.full(bundle.description.rows[split], train_N.mean()), len(train_N))
    features_ND, targets_N = _train_sample(bundle, train_N, 1)
    model = Ridge(alpha=_SHRINKAGE)
    _fit(model, features_ND, targets_N)
    yield BaselineAnswers("linear", _predicted(bundle, split, model.predict), len(targets_N))


def _fit(model: Any, features_ND: Array, targets_N: Array) -> None:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the steps are bounded on purpose
        model.fit(features_ND, targets_N)


def _train_targets(bundle: Bundle) -> Array:
    description = bundle.description
    name = LABEL_COLUMN if description.modality == "images" else description.target
    batches = bundle.batches("train", _TARGET_ROWS, [name])
    return np.concatenate([targets(description, batch) for batch in batches])


def _train_sample(bundle: Bundle, train_N: Array, num_classes: int) -> tuple[Array, Array]:
    """Features [N, D] and targets [N] of a random sample of train, of a size that keeps fitting within seconds."""
    description = bundle.description
    width = _features(description, next(iter(bundle.batches("train", 1)))).shape[1]
    most = min(_MAX_TRAIN_ROWS, _MAX_TRAIN_NUMBERS // width, _MAX_WORK // (width * num_classes))
    rows = len(train_N)
    chosen_N = np.zeros(rows, bool)
    chosen_N[np.random.default_rng(_SEED).permutation(rows)[: max(most, 10 * num_classes)]] = True
    parts, start = [], 0
    for batch in bundle.batches("train", chunk_rows(description)):
        here = np.flatnonzero(chosen_N[start : start + batch.num_rows])
        start += batch.num_rows
        if len(here):
            parts.append(_features(description, batch.take(here)))
    return np.concatenate(parts), train_N[chosen_N]


def _predicted(bundle: Bundle, split: SplitName, predict: Any) -> Array:
    description = bundle.description
    batches = bundle.batches(split, chunk_rows(description))
    return np.concatenate([predict(_features(description, batch)) for batch in batches]).astype(np.float32)


def _features(description: DatasetDescription, batch: Any) -> Array:
    """Float32 [N, D]: an encoded table, or pixels from 0 to 1, large images averaged down."""
    encoded = encode_batch(description, batch)
    if description.modality == "table":
        return encoded
    _, height, width, _ = encoded.shape
    step = -(-max(height, width) // _MAX_IMAGE_SIDE)
    if step > 1:
        encoded = np.add.reduceat(encoded.astype(np.float32), np.arange(0, height, step), axis=1)
        encoded = np.add.reduceat(encoded, np.arange(0, width, step), axis=2) / step**2
    pixels_ND: Array = encoded.reshape(len(encoded), -1).astype(np.float32) / 255
    return pixels_ND
