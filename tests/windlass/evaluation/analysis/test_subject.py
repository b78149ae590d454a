from __future__ import annotations

import numpy as np
import pytest

from planted import make_subject, probabilities
from windlass.data.bundle import Bundle
from windlass.evaluation.analysis.sample import read_sample
from windlass.evaluation.bootstrap import resampled_quality
from windlass.evaluation.quality import Scored


def test_the_main_metric_and_its_drop_are_those_of_measurement(people: Bundle, houses: Bundle) -> None:
    classes = make_subject(
        people,
        "tabular-classification",
        good=lambda inputs: probabilities(inputs["income"] > 0.1),
        bad=lambda inputs: probabilities(inputs["income"] > 0.5),
    )
    numbers = make_subject(
        houses,
        "tabular-regression",
        good=lambda inputs: inputs["input"] @ np.array([3, 1], np.float32),
        bad=lambda inputs: inputs["input"] @ np.array([2, 1], np.float32),
    )
    for subject in (classes, numbers):
        targets, metric = subject.sample.targets, subject.task.metric
        scored = {
            name: Scored.of(subject.task, answers, targets, subject.bootstrap)
            for name, answers in subject.answers.items()
        }
        for name, answers in subject.answers.items():
            expected = scored[name].quality()[metric]
            assert subject.clean()[name].model_dump() == pytest.approx(expected.model_dump())
            by_resample = resampled_quality(answers, targets, subject.bootstrap)[metric]
            assert subject.resampled(answers) == pytest.approx(by_resample)
        bad, expected_drop = subject.answers["bad"], scored["good"].better_than(scored["bad"])
        drops = subject.drops("good", subject.resampled(bad))
        found = subject.bootstrap.interval(subject.drop("good", subject.point(bad)), drops)
        assert found.model_dump() == pytest.approx(expected_drop.model_dump())


def test_a_sample_is_the_same_each_time_and_leaves_rows_in_their_order(people: Bundle) -> None:
    first, second = (read_sample(people, "validation", 300) for _ in range(2))
    assert (first.positions == second.positions).all()
    assert len(np.unique(first.positions)) == 300
    assert (np.diff(first.positions) > 0).all()
    whole = read_sample(people, "validation", 5000)
    assert len(whole) == 2000
    assert (whole.column("income")[first.positions] == first.column("income")).all()
    assert (whole.targets[first.positions] == first.targets).all()
