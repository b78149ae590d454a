"""Two versions side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tiny_models import numbers_signature
from windlass.registry import Registry, VersionNotFoundError, compare_versions, promote
from windlass.registry.comparing import breaking_changes, figures_of
from windlass.registry.tracking import connect
from windlass.variants import Signature, TensorSpec

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def images(size: int) -> Signature:
    return Signature(
        inputs=(TensorSpec(name="image", dtype="uint8", shape=(None, size, size, 1)),),
        outputs=(TensorSpec(name="value", dtype="float32", shape=(None,)),),
    )


def mixed(kind: Any) -> Signature:
    table = numbers_signature("ab", "xy")
    return table.model_copy(update={"columns": (table.columns[0], table.columns[1].model_copy(update={"type": kind}))})  # type: ignore[index]


@pytest.mark.parametrize(
    ("a", "b", "says"),
    [
        (numbers_signature("ab", "xy"), numbers_signature("ab", "xy"), []),
        (
            numbers_signature("ab", "xy"),
            numbers_signature("bc", "xy"),
            ["column 'a' is gone: a row that has it is refused", "column 'c' is new: a row without it is refused"],
        ),
        (
            numbers_signature("ab", "xy"),
            numbers_signature("ba", "xy"),
            ["the columns stand in another order: rows that are lists mean something else"],
        ),
        (mixed("number"), mixed("category"), ["column 'b' is a category instead of a number"]),
        (
            numbers_signature("ab", "xy"),
            numbers_signature("ab", "yz"),
            ["class 'x' is gone", "class 'z' is new"],
        ),
        (
            numbers_signature("ab", "xy"),
            numbers_signature("ab", "yx"),
            ["the classes stand in another order, and so do their probabilities"],
        ),
        (images(8), images(16), ["images are 16 × 16 × 1 instead of 8 × 8 × 1 (height × width × channels)"]),
        (
            numbers_signature("ab", "xy"),
            images(8),
            [
                "it takes an image instead of a row of a table",
                "the answer is a number instead of a class with probabilities",
            ],
        ),
    ],
)
def test_what_callers_notice_is_said(a: Signature, b: Signature, says: list[str]) -> None:
    assert list(breaking_changes(a, b)) == says


def test_figures_of_a_measurement_with_fields_that_nobody_knows_yet_are_read() -> None:
    measurement = {
        "format_version": 7,
        "quality": {"f1": {"point": 0.5, "low": 0.4, "high": 0.6}},
        "energy": {"joules": 2.5, "method": "rapl"},
        "size_bytes": 100,
        "batch_invariant": True,
        "throughput": [{"batch_size": 8, "rows_per_s": 900.0}],
        "mistakes": {"confusion": [[1, 2], [3, 4]]},
    }
    found = figures_of(measurement)
    assert list(found) == ["quality/f1", "energy/joules", "size_bytes", "throughput/batch 8/rows_per_s"]
    assert (found["quality/f1"].low, found["quality/f1"].high) == (0.4, 0.6)


def test_two_versions_of_two_runs_differ_in_figures_recipe_dataset_and_signature(
    sqlite: str, tmp_path: Path, support: Any
) -> None:
    names = ("fp32", "int8")
    support.register_family(sqlite, tmp_path / "a", names, "fp32", parameters={"train.epochs": 3, "budget.x": 1})
    support.register_family(
        sqlite,
        tmp_path / "b",
        names,
        "int8",
        signature=numbers_signature("abce", "xyz"),
        run_key="b" * 64,
        run_id_tag="digits-2",
        parameters={"train.epochs": 5, "budget.x": 1},
        tags={"windlass.dataset": "e" * 64},
    )
    found = compare_versions(Registry(sqlite), "digits", 1, 2)
    assert found.breaking == (
        "column 'd' is gone: a row that has it is refused",
        "column 'e' is new: a row without it is refused",
    )
    figures = {pair.name: pair for pair in found.figures}
    accuracy = figures["quality/accuracy"]
    assert accuracy.a is not None
    assert accuracy.b is not None
    assert (accuracy.a.point, accuracy.b.point, accuracy.b.low) == (0.99, 0.98, 0.97)
    assert {"size_bytes", "latency/batch 1/p95_ms", "memory/total_bytes"} <= set(figures)
    assert found.recipe is not None
    assert [(pair.name, pair.a, pair.b) for pair in found.recipe] == [("train.epochs", "3", "5")]
    assert (found.a.dataset, found.b.dataset) == ("f" * 64, "e" * 64)
    assert (found.a.candidate, found.b.methods, found.b.aliases) == ("fp32", ("int8",), ("champion",))
    assert found.measured == ()


def test_two_versions_of_one_family_have_one_recipe(sqlite: str, tmp_path: Path, support: Any) -> None:
    support.register_family(sqlite, tmp_path / "a", ("fp32", "int8"), "int8")
    promote(sqlite, "digits", "fp32")
    found = compare_versions(Registry(sqlite), "digits", 1, 2)
    assert (found.recipe, found.breaking, found.b.parent) == ((), (), "digits/1")


def test_a_recipe_whose_run_is_gone_is_not_known(sqlite: str, tmp_path: Path, support: Any) -> None:
    support.register_family(sqlite, tmp_path / "a", ("fp32",), "fp32")
    client = connect(sqlite)
    source = client.get_model_version("digits", "1").source
    tags = dict(client.get_model_version("digits", "1").tags)
    client.create_model_version("digits", source, "0" * 32, tags=tags, await_creation_for=0)
    assert compare_versions(Registry(sqlite), "digits", 1, 2).recipe is None


def test_a_version_that_is_not_there_is_named(sqlite: str, tmp_path: Path, support: Any) -> None:
    support.register_family(sqlite, tmp_path / "a", ("fp32",), "fp32")
    with pytest.raises(VersionNotFoundError, match="no version 2; see `windlass models show digits`"):
        compare_versions(Registry(sqlite), "digits", 1, 2)
