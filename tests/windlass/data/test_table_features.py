# ruff: noqa: S311 - random tables, no secrets
from __future__ import annotations

import math
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from windlass.data.description import CategoryTransform, DatasetDescription, NumberTransform
from windlass.data.features import encode, encode_batch, feature_width, serving_inputs, serving_rows, targets


@pytest.fixture
def mixed(write: Any, prepare_table: Any) -> Any:
    draw = random.Random(2)
    rows = []
    for i in range(800):
        age = "" if i % 11 == 0 else f"{draw.gauss(40, 9):.3f}"
        city = "" if i % 13 == 0 else "rare" if i % 400 == 7 else draw.choice(["rome", "oslo", "lima"])
        rows.append(f"{age},{city},{draw.gauss(0, 1e-7)},{draw.choice(['no', 'yes'])}\n")
    return prepare_table(str(write("a.csv", "age,city,tiny,y\n" + "".join(rows))))


def reference(description: DatasetDescription, rows: list[dict[str, Any]]) -> np.ndarray:
    """The declared transforms, read literally, one value at a time."""
    encoded = []
    for row in rows:
        values: list[float] = []
        for transform in description.transforms:
            if isinstance(transform, NumberTransform):
                value = row[transform.column]
                values.append(0.0 if value is None else (value - transform.mean) / transform.scale)
                values += [float(value is None)] if transform.missing_indicator else []
            elif isinstance(transform, CategoryTransform):
                text = row[transform.column] or ""
                values += [float(text == known) for known in transform.vocabulary]
                values += [float(text not in transform.vocabulary)] if transform.other else []
        encoded.append(values)
    return np.array(encoded)


def test_encoding_is_what_the_transforms_declare(mixed: Any) -> None:
    encoded = encode(mixed, "test")
    expected = reference(mixed.description, mixed.table("test").to_pylist())
    assert encoded.features.dtype == np.float32
    assert encoded.features.shape == (mixed.description.rows["test"], feature_width(mixed.description))
    np.testing.assert_allclose(encoded.features, expected, rtol=1e-5, atol=1e-5)
    assert encoded.targets.dtype == np.int64
    assert encoded.targets.tolist() == mixed.table("test").column("y").to_pylist()


def test_transforms_are_fitted_on_train_only(mixed: Any) -> None:
    age = next(t for t in mixed.description.transforms if t.column == "age")
    known = [value for value in mixed.table("train").column("age").to_pylist() if value is not None]
    assert age.mean == pytest.approx(np.mean(known), rel=1e-10)
    assert age.scale == pytest.approx(np.std(known), rel=1e-10)
    assert age.missing_indicator


def test_rare_and_missing_categories_have_a_declared_place(mixed: Any) -> None:
    city = next(t for t in mixed.description.transforms if t.column == "city")
    assert city.vocabulary == ("", "lima", "oslo", "rome")
    assert city.other


def test_a_category_never_seen_is_other_and_a_missing_number_is_the_mean(mixed: Any) -> None:
    batch = pa.table({"age": [None], "city": ["atlantis"], "tiny": [0.0]}, schema=_feature_schema())
    row = encode_batch(mixed.description, batch)[0]
    assert row[:2].tolist() == [0.0, 1.0]
    assert row[2:7].tolist() == [0.0, 0.0, 0.0, 0.0, 1.0]


def test_columns_in_another_order_encode_alike(mixed: Any) -> None:
    table = mixed.table("validation")
    turned = table.select(list(reversed(table.column_names)))
    np.testing.assert_array_equal(encode_batch(mixed.description, table), encode_batch(mixed.description, turned))


def test_a_mixed_table_is_served_by_column(mixed: Any) -> None:
    batch = next(mixed.batches("test", 50))
    inputs = serving_inputs(mixed.description, batch)
    assert list(inputs) == ["age", "city", "tiny"]
    assert inputs["age"].dtype == np.float32
    assert inputs["city"].dtype == object
    rows = serving_rows(mixed.description, batch)
    missing = [row["age"] is None for row in rows]
    assert np.isnan(inputs["age"]).tolist() == missing
    assert all((row["city"] or "") == text for row, text in zip(rows, inputs["city"], strict=True))


def test_a_table_of_numbers_is_served_as_one_matrix(prepare_table: Any) -> None:
    bundle = prepare_table("sklearn:wine", target=None)
    batch = next(bundle.batches("test", 10))
    inputs = serving_inputs(bundle.description, batch)
    assert list(inputs) == ["input"]
    assert inputs["input"].shape == (10, 13)
    np.testing.assert_allclose(np.asarray(serving_rows(bundle.description, batch), np.float32), inputs["input"])


def test_a_regression_target_is_standardized_on_train_and_kept_raw_in_the_shards(prepare_table: Any) -> None:
    bundle = prepare_table("sklearn:diabetes", kind="number", target=None)
    learned = encode(bundle, "train").targets
    assert learned.dtype == np.float32
    assert float(learned.mean()) == pytest.approx(0, abs=1e-5)
    assert float(learned.std()) == pytest.approx(1, abs=1e-5)
    assert targets(bundle.description, bundle.table("test")).min() >= 25


@pytest.mark.parametrize(("name", "kind"), [("breast_cancer", "class"), ("wine", "class"), ("diabetes", "number")])
def test_bundled_tables_are_prepared_as_they_stand(prepare_table: Any, name: str, kind: str) -> None:
    description = prepare_table(f"sklearn:{name}", kind=kind, target=None).description
    assert description.dropped_columns == {}
    assert sum(description.rows.values()) == {"breast_cancer": 569, "wine": 178, "diabetes": 442}[name]


def test_housing_keeps_every_row_and_tells_what_is_missing(prepare_table: Any) -> None:
    if "WINDLASS_DATA" not in os.environ:
        pytest.skip("WINDLASS_DATA does not name a folder with california-housing")
    bundle = prepare_table(
        "${WINDLASS_DATA}/california-housing/housing.csv", kind="number", target="median_house_value"
    )
    description = bundle.description
    assert sum(description.rows.values()) == 20_640
    indicators = [t.column for t in description.transforms if isinstance(t, NumberTransform) and t.missing_indicator]
    assert indicators == ["total_bedrooms"]
    assert description.target_transform is not None
    assert math.isclose(description.target_transform.mean, 206_000, rel_tol=0.02)


def test_large_splits_come_in_several_shards(tmp_path: Path) -> None:
    from windlass.data.bundle import BundleWriter

    table = pa.table({"x": np.arange(1000.0)})
    with BundleWriter(tmp_path, table.schema, shard_bytes=4000) as writer:
        for start in range(0, 1000, 250):
            writer.write("train", table.slice(start, 250))
    assert writer.rows["train"] == 1000
    assert len(writer.shards["train"]) == 2
    assert writer.shards["test"] == ()


def _feature_schema() -> pa.Schema:
    return pa.schema([("age", pa.float64()), ("city", pa.string()), ("tiny", pa.float64())])
