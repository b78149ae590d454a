from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import fisher_exact, ttest_ind

from planted import make_subject, probabilities, write_images
from windlass.data.bundle import Bundle
from windlass.evaluation.analysis.documents import Condition, Slice
from windlass.evaluation.analysis.groups import groups_of_images, groups_of_table
from windlass.evaluation.analysis.sample import read_reference
from windlass.evaluation.analysis.slices import find_slices
from windlass.evaluation.analysis.subject import Subject


def slices_of(subject: Subject, bundle: Bundle, variant: str, uncompressed: str) -> tuple[Slice, ...]:
    groups = groups_of_table(subject.sample, read_reference(bundle))
    return find_slices(subject, groups, uncompressed).by_variant[variant]


def flipped(chosen: np.ndarray, where: np.ndarray) -> np.ndarray:
    return probabilities(np.where(where, ~chosen, chosen))


def test_a_planted_group_is_found_and_nothing_else_is_shown(people: Bundle) -> None:
    def answer(inputs: dict[str, np.ndarray]) -> np.ndarray:
        return flipped(inputs["income"] > 0, inputs["city"] == "Ulm")

    subject = make_subject(people, "tabular-classification", one=answer)
    (found,) = slices_of(subject, people, "one", "one")
    assert found.conditions == (Condition(column="city", value="Ulm"),)
    assert (found.error.point, found.rest, found.effect.point) == (1, 0, 1)
    assert found.rows == (subject.sample.column("city") == "Ulm").sum()
    assert found.conditions[0].text == "city is Ulm"


def test_a_planted_pair_is_found_before_its_parts_and_hides_them(people: Bundle) -> None:
    median = float(np.quantile(read_reference(people)["luck"].to_numpy(), 0.75))

    def answer(inputs: dict[str, np.ndarray]) -> np.ndarray:
        return flipped(inputs["income"] > 0, (inputs["city"] == "Rome") & (inputs["luck"] >= median))

    subject = make_subject(people, "tabular-classification", one=answer)
    (found,) = slices_of(subject, people, "one", "one")
    by_column = {condition.column: condition for condition in found.conditions}
    assert by_column["city"].value == "Rome"
    assert (by_column["luck"].low, by_column["luck"].high) == (pytest.approx(median), None)
    assert found.effect.low > 0.9


def test_missing_values_and_carried_columns_make_groups_too(people: Bundle) -> None:
    sex = np.array(people.table("validation")["sex"].to_pylist())
    position = 0

    def answer(inputs: dict[str, np.ndarray]) -> np.ndarray:
        nonlocal position
        here = sex[position : position + len(inputs["age"])]
        position += len(here)
        return flipped(inputs["income"] > 0, np.isnan(inputs["age"]) & (here == "f"))

    subject = make_subject(people, "tabular-classification", one=answer)
    (found,) = slices_of(subject, people, "one", "one")
    assert {condition.text for condition in found.conditions} == {"age missing", "sex is f"}


def test_where_errors_are_chance_no_group_is_shown(people: Bundle) -> None:
    rng = np.random.default_rng(5)

    def answer(inputs: dict[str, np.ndarray]) -> np.ndarray:
        return flipped(inputs["income"] > 0, rng.random(len(inputs["income"])) < 0.2)

    subject = make_subject(people, "tabular-classification", one=answer)
    assert subject.clean()["one"].point == pytest.approx(0.8, abs=0.03)
    assert slices_of(subject, people, "one", "one") == ()


def test_what_compression_added_in_a_group_is_told(people: Bundle) -> None:
    subject = make_subject(
        people,
        "tabular-classification",
        small=lambda inputs: flipped(inputs["income"] > 0, inputs["city"] == "Ulm"),
        whole=lambda inputs: flipped(inputs["income"] > 0, (inputs["city"] == "Ulm") & (inputs["luck"] > 0)),
    )
    (found,) = slices_of(subject, people, "small", "whole")
    assert found.added is not None
    assert found.added.point == pytest.approx(0.5, abs=0.1)
    assert found.added.low > 0.3
    assert all(found.added is None for found in slices_of(subject, people, "whole", "whole"))


def test_the_tests_are_fishers_and_welchs(people: Bundle, houses: Bundle) -> None:
    """With one group only, the correction changes nothing."""
    classes = make_subject(
        people,
        "tabular-classification",
        one=lambda inputs: flipped(inputs["income"] > 0, inputs["luck"] > np.where(inputs["city"] == "Bonn", 1.3, 1.9)),
    )
    (bonn,) = [g for g in groups_of_table(classes.sample, read_reference(people)) if g.condition.value == "Bonn"]
    (found,) = find_slices(classes, [bonn], "one").by_variant["one"]
    wrong = classes.errors["one"] > 0
    table = [
        [(wrong & bonn.mask).sum(), (~wrong & bonn.mask).sum()],
        [(wrong & ~bonn.mask).sum(), (~wrong & ~bonn.mask).sum()],
    ]
    assert found.p_value == pytest.approx(fisher_exact(table, alternative="greater").pvalue)

    numbers = make_subject(houses, "tabular-regression", one=lambda inputs: inputs["input"] @ np.array([2.9, 1.0]))
    group = groups_of_table(numbers.sample, read_reference(houses))[0]
    (found,) = find_slices(numbers, [group], "one").by_variant["one"]
    errors = numbers.errors["one"]
    welch = ttest_ind(errors[group.mask], errors[~group.mask], equal_var=False, alternative="greater")
    assert found.p_value == pytest.approx(welch.pvalue)
    assert find_slices(numbers, [group], "one").measure == "absolute_error"


def test_of_pictures_the_bad_class_and_the_dark_ones_are_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    labels, dark = rng.integers(0, 3, 1200), rng.random(1200) < 0.25
    images = rng.integers(0, 100, (1200, 6, 6, 1)) + np.where(dark, 0, 120)[:, None, None, None]
    images[:, 0, 0, 0] = labels
    bundle = write_images(tmp_path / "images", images.astype(np.uint8), labels, ("a", "b", "c"))

    def bad_class(inputs: dict[str, np.ndarray]) -> np.ndarray:
        answered = inputs["image"][:, 0, 0, 0].astype(int)
        return probabilities(np.where(answered == 2, 0, answered), 3)

    def bad_in_the_dark(inputs: dict[str, np.ndarray]) -> np.ndarray:
        answered = inputs["image"][:, 0, 0, 0].astype(int)
        return probabilities(np.where(inputs["image"].mean(axis=(1, 2, 3)) < 100, (answered + 1) % 3, answered), 3)

    subject = make_subject(bundle, "image-classification", first=bad_class, second=bad_in_the_dark)
    found = find_slices(subject, groups_of_images(subject.sample), "first").by_variant
    assert found["first"][0].conditions == (Condition(column="class", value="c"),)
    (condition,) = found["second"][0].conditions
    assert (condition.column, condition.low) == ("brightness", None)
