"""Rows from JSON: what is accepted, and how each fault is named."""

from __future__ import annotations

import time

import numpy as np
import pytest

from windlass.variants import ColumnSpec, Signature, TensorSpec
from windlass.variants.rows import InvalidRowsError, rows_to_tensors


def test_objects_in_any_column_order_equal_lists_in_signature_order(numbers: Signature) -> None:
    from_lists = rows_to_tensors(numbers, [[1, 2.5, 3], [4, 5, 6]])["input"]
    from_objects = rows_to_tensors(numbers, [{"c": 3, "a": 1, "b": 2.5}, {"b": 5, "c": 6, "a": 4}])["input"]
    assert from_lists.dtype == np.float32
    assert from_lists.tolist() == [[1, 2.5, 3], [4, 5, 6]]
    np.testing.assert_array_equal(from_lists, from_objects)


def test_null_is_a_missing_number(numbers: Signature) -> None:
    tensor = rows_to_tensors(numbers, [[1, None, 3]])["input"]
    np.testing.assert_array_equal(tensor, np.array([[1, np.nan, 3]], dtype=np.float32))


def test_mixed_columns_become_one_tensor_each_and_null_text_is_empty(mixed: Signature) -> None:
    tensors = rows_to_tensors(mixed, [{"town": None, "age": 3}, {"age": None, "town": "Oslo"}])
    np.testing.assert_array_equal(tensors["age"], np.array([3, np.nan], dtype=np.float32))
    assert tensors["town"].tolist() == ["", "Oslo"]
    assert rows_to_tensors(mixed, [[1, "Bergen"]])["town"].tolist() == ["Bergen"]


def test_a_table_of_one_column_takes_objects_and_lists() -> None:
    signature = Signature(
        inputs=(TensorSpec(name="input", dtype="float32", shape=(None, 1)),),
        outputs=(TensorSpec(name="value", dtype="float32", shape=(None,)),),
        columns=(ColumnSpec(name="x", type="number"),),
    )
    assert rows_to_tensors(signature, [{"x": 1}, {"x": 2}])["input"].tolist() == [[1], [2]]
    assert rows_to_tensors(signature, [[1], [2]])["input"].tolist() == [[1], [2]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "rows has to be a list with at least one row"),
        ({"a": 1}, "rows has to be a list with at least one row"),
        ([[1, 2, 3], [1, 2]], "row 1: 2 values; the model takes 3"),
        ([[1, 2, 3], 4], "row 1: 4 is neither a list of values nor an object by column name"),
        ([[1, 2, 3], {"a": 1, "b": 2, "c": 3}], "row 1: rows are lists or objects, not both in one request"),
        ([{"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 2}], "row 1, column 'c': the column is missing"),
        ([{"a": 1, "b": 2, "c": 3, "d": 4}], "row 0, column 'd': the model has no such column; it has a, b, c"),
        ([[1, 2, 3], [1, True, 3]], "row 1, column 'b': true is not a number"),
        ([[1, 2, "3"]], "row 0, column 'c': '3' is not a number"),
        ([[1, 2, "NaN"]], "row 0, column 'c': 'NaN' is not a number"),
        ([[1, 2, float("nan")]], "row 0, column 'c': the number is not finite; send null"),
        ([[1, float("inf"), None]], "row 0, column 'b': the number is not finite"),
        ([[1, 2, 3], [1e39, None, 3]], "row 1, column 'a': the number is too large for the model"),
        ([[1, 2, 10**400]], "row 0, column 'c': the number is too large for the model"),
        ([[1, [2], 3]], "row 0, column 'b': a list is not a number"),
        ([[1, {}, 3]], "row 0, column 'b': an object is not a number"),
    ],
)
def test_a_fault_in_a_row_of_numbers_is_named(numbers: Signature, rows: object, message: str) -> None:
    with pytest.raises(InvalidRowsError) as caught:
        rows_to_tensors(numbers, rows)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"age": 1, "town": "x"}, {"age": "1", "town": "x"}], "row 1, column 'age': '1' is not a number"),
        ([{"age": False, "town": "x"}], "row 0, column 'age': false is not a number"),
        ([{"age": 1, "town": 7}], "row 0, column 'town': 7 is not text; this column is a category"),
        ([{"age": 1, "town": "\ud800"}], "row 0, column 'town': the text is not valid Unicode"),
    ],
)
def test_a_fault_in_a_mixed_row_is_named(mixed: Signature, rows: object, message: str) -> None:
    with pytest.raises(InvalidRowsError) as caught:
        rows_to_tensors(mixed, rows)
    assert message in str(caught.value)


def test_an_image_is_a_nested_list_with_or_without_its_single_channel(grey: Signature) -> None:
    with_channel = rows_to_tensors(grey, [[[[0], [1], [2]], [[3], [4], [255]]]])["image"]
    without = rows_to_tensors(grey, [[[0, 1, 2], [3, 4, 255]]])["image"]
    assert with_channel.dtype == np.uint8
    assert with_channel.shape == (1, 2, 3, 1)
    np.testing.assert_array_equal(with_channel, without)


@pytest.mark.attack
@pytest.mark.parametrize(
    ("image", "message"),
    [
        ([[0, 1, 2]], "row 1: the image is not a list of the shape [2][3][1] or [2][3]"),
        ([[0, 1, 2], [3, 4]], "row 1: the image is not a list of the shape"),
        ([[0, 1, 2], [3, 4, 256]], "row 1: 256 is not an integer from 0 to 255"),
        ([[0, 1, 2], [3, 4, -1]], "row 1: -1 is not an integer from 0 to 255"),
        ([[0, 1, 2], [3, 4, 1.5]], "row 1: 1.5 is not an integer from 0 to 255"),
        ([[0, 1, 2], [3, 4, True]], "row 1: true is not an integer from 0 to 255"),
        ([[0, 1, 2], [3, 4, None]], "row 1: null is not an integer from 0 to 255"),
        ([[0, 1, 2], [3, 4, [5]]], "row 1: a list is not an integer from 0 to 255"),
        ([[[0], [1], [2]], [[3], [4], [5, 6]]], "row 1: the image is not a list of the shape"),
        ("pixels", "row 1: the image is not a list of the shape"),
    ],
)
def test_a_fault_in_an_image_is_named(grey: Signature, image: object, message: str) -> None:
    with pytest.raises(InvalidRowsError) as caught:
        rows_to_tensors(grey, [[[0, 1, 2], [3, 4, 5]], image])
    assert message in str(caught.value)


@pytest.mark.attack
def test_a_wide_list_is_refused_before_it_is_joined(grey: Signature) -> None:
    wide = [[0] * 3] * 5_000_000
    started_s = time.perf_counter()
    with pytest.raises(InvalidRowsError, match="row 0: the image is not a list of the shape"):
        rows_to_tensors(grey, [wide])
    assert time.perf_counter() - started_s < 0.5
