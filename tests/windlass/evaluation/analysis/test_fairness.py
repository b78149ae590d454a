from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from fairlearn.metrics import demographic_parity_difference, equalized_odds_difference

from planted import make_subject, probabilities, write_table
from windlass.data.bundle import Bundle
from windlass.evaluation.analysis.errors import SensitiveColumnAbsentError
from windlass.evaluation.analysis.fairness import fairness
from windlass.evaluation.analysis.sample import read_reference


def test_a_planted_unfairness_gives_its_known_difference(tmp_path: Path) -> None:
    """Of 1,000 women 300 are selected, of 1,000 men 700; of those who deserve it 0.4 and 0.9."""
    sex = np.repeat(["f", "m"], 1000)
    deserves = np.tile(np.repeat([1, 0], 500), 2)
    women, men = (1, 0, 1, 0), (1, 0, 1, 0)
    selected = np.repeat([*women, *men], (200, 300, 100, 400, 450, 50, 250, 250))
    table = pa.table({"x": selected.astype(float), "sex": sex, "y": deserves.astype(np.int64)})
    bundle = write_table(
        tmp_path / "bundle",
        table,
        types={"x": "number", "sex": "category"},
        classes=("no", "yes"),
        carried=("sex",),
    )
    subject = make_subject(
        bundle, "tabular-classification", one=lambda inputs: probabilities(inputs["input"][:, 0] > 0.5)
    )
    (found,) = fairness(subject, ["sex"], read_reference(bundle))
    result = found.by_variant["one"]
    assert (found.column, found.is_feature, found.left_out, result.positive_class) == ("sex", False, 0, "yes")
    women, men = result.groups
    assert (women.group, women.rows, men.group, men.rows) == ("f", 1000, "m", 1000)
    rates = [
        (rates.selection_rate, rates.true_positive_rate, rates.false_positive_rate, rates.accuracy)
        for rates in (women, men)
    ]
    assert [[rate.point for rate in row if rate] for row in rates] == [[0.3, 0.4, 0.2, 0.6], [0.7, 0.9, 0.5, 0.7]]
    for rate, deviation in zip(rates[0], (0.0145, 0.0219, 0.0179, 0.0155), strict=True):
        assert rate is not None
        assert rate.high - rate.low == pytest.approx(2 * 1.96 * deviation, rel=0.2)
    assert result.demographic_parity_difference is not None
    assert result.demographic_parity_difference.point == pytest.approx(0.4)
    assert 0.3 < result.demographic_parity_difference.low < 0.4 < result.demographic_parity_difference.high < 0.5
    assert result.equalized_odds_difference is not None
    assert result.equalized_odds_difference.point == pytest.approx(0.5)


@pytest.mark.parametrize("column", ["sex", "city"])
def test_the_differences_are_those_of_fairlearn(people: Bundle, column: str) -> None:
    rng = np.random.default_rng(8)
    subject = make_subject(
        people,
        "tabular-classification",
        one=lambda inputs: probabilities(
            inputs["income"] + rng.normal(size=len(inputs["age"])) > np.where(inputs["city"] == "Ulm", 0.5, 0)
        ),
    )
    (found,) = fairness(subject, [column], read_reference(people))
    result, groups = found.by_variant["one"], subject.sample.table[column].to_pylist()
    answered, actual = subject.answers["one"].argmax(axis=1), subject.sample.targets
    assert result.demographic_parity_difference is not None
    assert result.equalized_odds_difference is not None
    assert result.demographic_parity_difference.point == pytest.approx(
        demographic_parity_difference(actual, answered, sensitive_features=groups)
    )
    assert result.equalized_odds_difference.point == pytest.approx(
        equalized_odds_difference(actual, answered, sensitive_features=groups)
    )
    assert found.is_feature == (column == "city")


def test_of_several_classes_the_one_that_fares_worst_is_shown(tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    actual, group = rng.integers(0, 3, 2000), rng.choice(["g", "h"], 2000)
    answered = np.where((group == "h") & (actual == 2) & (rng.random(2000) < 0.6), 0, actual)
    table = pa.table({"x": answered.astype(float), "group": group, "y": actual})
    bundle = write_table(
        tmp_path / "bundle",
        table,
        types={"x": "number", "group": "category"},
        classes=("a", "b", "c"),
        carried=("group",),
    )
    subject = make_subject(bundle, "tabular-classification", one=lambda inputs: probabilities(inputs["input"][:, 0], 3))
    result = fairness(subject, ["group"], read_reference(bundle))[0].by_variant["one"]
    assert result.positive_class == "c"
    assert result.equalized_odds_difference is not None
    assert result.equalized_odds_difference.point == pytest.approx(0.6, abs=0.06)


def test_of_numbers_the_mean_errors_are_compared_over_quartiles_of_train(houses: Bundle) -> None:
    subject = make_subject(
        houses,
        "tabular-regression",
        one=lambda inputs: inputs["input"] @ np.array([3, 1], np.float32) - 2 * (inputs["input"][:, 1] > 0),
    )
    (found,) = fairness(subject, ["year"], read_reference(houses))
    result = found.by_variant["one"]
    assert [group.group.split()[0] for group in result.groups] == ["below", "from", "from", "from"]
    assert sum(group.rows for group in result.groups) == 2000
    assert result.mean_error_difference is not None
    assert result.mean_error_difference.point == pytest.approx(2, abs=0.02)
    assert result.groups[3].mean_error is not None
    assert result.groups[3].mean_error.point == pytest.approx(-2, abs=0.02)
    assert result.demographic_parity_difference is None


def test_a_column_that_new_data_lack_is_named_with_those_that_they_have(people: Bundle) -> None:
    subject = make_subject(people, "tabular-classification", one=lambda inputs: probabilities(inputs["income"] > 0))
    with pytest.raises(SensitiveColumnAbsentError) as refused:
        fairness(subject, ["religion"], read_reference(people))
    assert str(refused.value) == (
        "evaluate.sensitive: these data do not carry the column 'religion', only income, age, luck, city, sex; "
        "prepare them with a recipe that names it, or take it out of evaluate.sensitive"
    )
