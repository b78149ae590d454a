from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.inspection import permutation_importance as sklearn_importance

from planted import make_subject, probabilities, write_images, write_table
from windlass.data.bundle import Bundle
from windlass.evaluation.analysis.importance import permutation_importance
from windlass.evaluation.analysis.occlusion import occlusion
from windlass.evaluation.analysis.robustness import robustness


def test_only_the_column_that_the_model_reads_matters(people: Bundle) -> None:
    subject = make_subject(people, "tabular-classification", one=lambda inputs: probabilities(inputs["income"] > 0))
    by_change = {(found.kind, found.column): found.by_variant["one"] for found in robustness(subject)}
    assert subject.clean()["one"].point == 1
    assert by_change["missing", "income"].quality.point == pytest.approx(0.5, abs=0.05)
    assert by_change["shuffled", "income"].drop.low > 0.4
    for column in ("age", "luck", "city"):
        assert by_change["missing", column].drop.model_dump() == {"point": 0, "low": 0, "high": 0}
        assert by_change["shuffled", column].drop.point == 0


def test_noise_is_in_standard_deviations_and_leaves_missing_values_missing(people: Bundle) -> None:
    seen: list[np.ndarray] = []

    def answer(inputs: dict[str, np.ndarray]) -> np.ndarray:
        seen.append(inputs["age"])
        return probabilities(inputs["age"] > 50)

    subject = make_subject(people, "tabular-classification", one=answer)
    clean = np.concatenate(seen)
    seen.clear()
    noises = [found for found in robustness(subject) if found.kind == "noise"]
    assert [(found.strength, found.unit) for found in noises] == [
        (strength, "standard deviations") for strength in (0.1, 0.3, 1.0)
    ]
    last = np.concatenate(seen)[-len(clean) :]
    assert (np.isnan(last) == np.isnan(clean)).all()
    assert np.nanstd(last - clean) == pytest.approx(np.nanstd(clean), rel=0.05)


def test_noise_on_the_largest_numbers_stays_within_what_a_model_can_be_given(tmp_path: Path) -> None:
    rows = 2000
    table = pa.table({"size": np.tile([-3.4e38, 1.0, 3.4e38, 0.0], rows // 4), "y": np.tile([0, 1], rows // 2)})
    bundle = write_table(tmp_path / "huge", table, types={"size": "number"}, classes=("no", "yes"))
    seen: list[np.ndarray] = []

    def answer(inputs: dict[str, np.ndarray]) -> np.ndarray:
        (sizes,) = inputs.values()
        seen.append(sizes.ravel())
        return probabilities(sizes.ravel() > 0)

    subject = make_subject(bundle, "tabular-classification", one=answer)
    seen.clear()
    changes = robustness(subject)
    sizes = np.concatenate(seen).reshape(len(changes), -1)
    noisy = sizes[[index for index, found in enumerate(changes) if found.kind == "noise"]]
    assert np.isfinite(noisy).all()
    assert np.abs(noisy).max() > 3.4e38


def test_pictures_are_blurred_moved_and_made_noisy_by_what_is_said(tmp_path: Path) -> None:
    images = np.full((200, 14, 14, 1), 100, np.uint8)
    images[:, :, 7] = 200
    bundle = write_images(tmp_path / "images", images, np.arange(200) % 2, ("a", "b"))
    seen: list[np.ndarray] = []

    def answer(inputs: dict[str, np.ndarray]) -> np.ndarray:
        seen.append(inputs["image"])
        return probabilities(np.zeros(len(inputs["image"])))

    subject = make_subject(bundle, "image-classification", one=answer)
    seen.clear()
    changes = robustness(subject)
    pixels = np.concatenate(seen).reshape(len(changes), 200, 14, 14).astype(float)
    found = {(change.kind, change.strength): pixels[index] for index, change in enumerate(changes)}
    before = images[..., 0].astype(float)

    assert (found["noise", 12.0] - before).std() == pytest.approx(12, rel=0.03)
    blurred = found["blur", 1.0]
    assert blurred.sum() == pytest.approx(before.sum(), rel=0.01)
    assert blurred[0, 5, 7] == pytest.approx(100 + 100 * 0.399, abs=1)
    lines = found["shift", 2].argmax(axis=2)[:, 5]
    assert set(lines.tolist()) == {5, 7, 9}, "left, right, and up or down"
    assert [change.unit for change in changes if change.kind == "shift"] == ["pixels"] * 2


def test_importance_ranks_what_was_planted_and_agrees_with_scikit_learn(houses: Bundle) -> None:
    weights = np.array([3, 1], np.float32)
    subject = make_subject(houses, "tabular-regression", one=lambda inputs: inputs["input"] @ weights)
    found = permutation_importance(subject)
    assert found.columns_left_out == 0
    first, second = found.by_variant["one"]
    assert (first.column, second.column) == ("size", "year")
    assert second.drop.low > 0

    class Estimator:
        def fit(self) -> None: ...

        def score(self, features: np.ndarray, targets: np.ndarray) -> float:
            return subject.task.quality(features @ weights, targets)["r2"]

    expected = sklearn_importance(
        Estimator(), subject.sample.inputs["input"], subject.sample.targets, n_repeats=5, random_state=0
    )
    assert [first.drop.point, second.drop.point] == pytest.approx(expected.importances_mean.tolist(), rel=0.05)
    assert np.mean(first.draws) == pytest.approx(first.drop.point)


def test_occlusion_points_at_the_part_that_decides(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    images = rng.integers(0, 60, (50, 14, 14, 3)).astype(np.uint8)
    images[:, 2:5, 9:12] = 250
    bundle = write_images(tmp_path / "images", images, np.ones(50), ("dark", "bright"))

    def answer(inputs: dict[str, np.ndarray]) -> np.ndarray:
        corner = inputs["image"][:, 2:5, 9:12].mean(axis=(1, 2, 3)) / 255
        return np.stack([1 - corner, corner], axis=1).astype(np.float32)

    subject = make_subject(bundle, "image-classification", one=answer)
    influence = occlusion(subject, "one", images[0], answered=1, window_pixels=2)
    assert influence.shape == (14, 14)
    assert influence.max() > 0.1
    row, column = np.unravel_index(influence.argmax(), influence.shape)
    assert 2 <= row < 5
    assert 9 <= column < 12
    outside = np.delete(influence, np.s_[1:6], axis=0)
    assert outside == pytest.approx(np.zeros_like(outside), abs=1e-6)
