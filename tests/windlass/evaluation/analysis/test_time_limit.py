"""An analysis that may not take longer, on a clock that each batch of answers moves on by a second."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from planted import Array, make_subject, probabilities, write_images
from windlass.data.bundle import Bundle
from windlass.evaluation.analysis import time_limit
from windlass.evaluation.analysis.documents import LeftOut
from windlass.evaluation.analysis.importance import permutation_importance
from windlass.evaluation.analysis.occlusion import explained_examples
from windlass.evaluation.analysis.robustness import robustness
from windlass.evaluation.analysis.subject import Subject

ROWS = 64
"""Two batches."""


class Clock:
    """Each call of a planted model takes a second."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def by_income(self, inputs: dict[str, Array]) -> Array:
        self.now_s += 1
        return probabilities(inputs["income"] > 0)

    def by_brightness(self, inputs: dict[str, Array]) -> Array:
        self.now_s += 1
        return probabilities(inputs["image"].mean(axis=(1, 2, 3)) > 128)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time_limit, "monotonic", clock)
    return clock


def people_subject(people: Bundle, clock: Clock, max_time_s: float) -> Subject:
    return make_subject(people, "tabular-classification", rows=ROWS, max_time_s=max_time_s, one=clock.by_income)


def test_with_time_enough_nothing_is_left_out(people: Bundle, clock: Clock) -> None:
    subject = people_subject(people, clock, math.inf)
    assert len(robustness(subject)) == 11
    assert permutation_importance(subject) is not None
    assert (subject.limit.left_out, subject.limit.sentence()) == ([], None)


def test_what_was_done_in_time_stays_as_it_is_and_the_rest_is_named(people: Bundle, clock: Clock) -> None:
    whole = robustness(people_subject(people, clock, math.inf))
    subject = people_subject(people, clock, max_time_s=2 + 3 * 2 + 1.5)
    assert robustness(subject) == whole[:3]
    assert permutation_importance(subject) is None
    assert subject.limit.left_out == [
        LeftOut(part="robustness", done=3, planned=11),
        LeftOut(part="importance", done=0, planned=4),
    ]
    assert subject.limit.sentence() == (
        "evaluate.analysis.max_time, 9.5 s, was over after 3 of 11 changes of the rows, 0 of 4 shuffled columns; "
        "the rest is left out."
    )


def test_columns_that_were_not_shuffled_are_counted_as_not_listed(people: Bundle, clock: Clock) -> None:
    subject = people_subject(people, clock, max_time_s=2 + 2 * 10 + 0.5)
    found = permutation_importance(subject)
    assert found is not None
    assert {entry.column for entry in found.by_variant["one"]} == {"income", "age"}
    assert found.columns_left_out == 2


def test_answers_to_the_rows_as_they_are_take_what_time_they_need(people: Bundle, clock: Clock) -> None:
    subject = people_subject(people, clock, max_time_s=0.5)
    assert subject.clean()["one"].point == 1
    assert robustness(subject) == ()


def test_a_picture_without_all_its_maps_leaves_no_file(tmp_path: Path, clock: Clock) -> None:
    bright = np.arange(50) % 2
    images = np.repeat((bright * 200).astype(np.uint8), 14 * 14).reshape(50, 14, 14, 1)
    bundle = write_images(tmp_path / "images", images, bright, ("dark", "bright"))
    models = {"one": clock.by_brightness, "two": clock.by_brightness}
    whole = explained_examples(make_subject(bundle, "image-classification", **models), tmp_path)
    assert whole is not None
    each_s = (clock.now_s - 2 * 2) / len(whole.examples)
    (tmp_path / "cut").mkdir()
    cut = make_subject(bundle, "image-classification", max_time_s=4 + 1.75 * each_s, **models)
    found = explained_examples(cut, tmp_path / "cut")
    assert found is not None
    assert found.examples == whole.examples[:1]
    assert cut.limit.left_out == [LeftOut(part="image_examples", done=1, planned=len(whole.examples))]
    assert len(list((tmp_path / "cut").iterdir())) == 3, "the picture and a map of each variant"
