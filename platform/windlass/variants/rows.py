"""Rows as a caller sends them become an engine's inputs; its outputs become answers.

Nothing is guessed: a value of another type than the signature's is refused with its row and column. A null is a
missing value: NaN for a number, the empty string for a category, as the model's graph expects them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NoReturn

from windlass.errors import InvalidInputError
from windlass.variants.signature import PROBABILITIES, VALUE, Signature

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

_NUMBER_TYPES = frozenset((int, float, type(None)))
_TEXT_TYPES = frozenset((str, type(None)))
_SHOWN_NAMES = 5


class InvalidRowsError(InvalidInputError):
    """Rows do not fit the model's signature. Nothing was computed.

    `row` counts from 0; both are None where the fault is not in one row or one column.
    """

    def __init__(self, problem: str, *, row: int | None = None, column: str | None = None) -> None:
        where = [] if row is None else [f"row {row}"]
        where += [] if column is None else [f"column {column!r}"]
        super().__init__(f"{', '.join(where)}: {problem}" if where else problem)
        self.problem, self.row, self.column = problem, row, column


def rows_to_tensors(signature: Signature, rows: object) -> dict[str, Array]:
    """The engine's inputs for rows that came as JSON.

    Of a table, a row is a list in the order of the columns, or an object by column name in any order, every column
    present. Of images, a row is a nested list [H][W][C] of integers from 0 to 255, or [H][W] if there is one channel.

    Returns:
        By input name: float32 [B, F]; or float32 [B] and object [B] of str per column; or uint8 [B, H, W, C].

    Raises:
        InvalidRowsError: the first value that does not fit, by row and column.
    """
    if type(rows) is not list or not rows:
        raise InvalidRowsError("rows has to be a list with at least one row")
    if signature.form == "images":
        return {signature.inputs[0].name: _images(signature.image_shape, rows)}
    names = signature.column_names
    listed = _as_lists(names, rows)
    if signature.form == "matrix":
        return {signature.inputs[0].name: _numbers(listed, names).reshape(len(rows), len(names))}
    assert signature.columns is not None
    tensors = {}
    for index, column in enumerate(signature.columns):
        values = list(map(itemgetter(index), listed))
        make = _column_of_numbers if column.type == "number" else _column_of_text
        tensors[column.name] = make(column.name, values)
    return tensors


def tensors_to_answers(signature: Signature, outputs: dict[str, Array]) -> list[Any]:
    """One answer per row, as JSON values.

    A classification answers `{"class": NAME, "probabilities": [...]}`, the class being the most probable one and the
    probabilities standing in the order of `class_names`; a regression answers with the number.
    """
    if signature.class_names is None:
        numbers: list[Any] = outputs[VALUE].tolist()
        return numbers
    probabilities_BC = outputs[PROBABILITIES]
    names = signature.class_names
    return [
        {"class": names[index], "probabilities": row}
        for index, row in zip(probabilities_BC.argmax(axis=1).tolist(), probabilities_BC.tolist(), strict=True)
    ]


def _as_lists(names: Sequence[str], rows: list[Any]) -> list[Sequence[Any]]:
    """Every row as a sequence of as many values as there are columns, in their order."""
    kinds = set(map(type, rows))
    if kinds == {list}:
        if set(map(len, rows)) != {len(names)}:
            index = next(index for index, row in enumerate(rows) if len(row) != len(names))
            raise InvalidRowsError(f"{len(rows[index])} values; the model takes {len(names)}", row=index)
        return rows
    if kinds == {dict}:
        wanted = set(names)
        for index, row in enumerate(rows):
            if row.keys() != wanted:
                _refuse_columns(index, row.keys(), names)
        return list(map(itemgetter(*names), rows)) if len(names) > 1 else [(row[names[0]],) for row in rows]
    first = type(rows[0])
    for index, row in enumerate(rows):
        if type(row) not in (list, dict):
            raise InvalidRowsError(f"{_shown(row)} is neither a list of values nor an object by column name", row=index)
        if type(row) is not first:
            raise InvalidRowsError("rows are lists or objects, not both in one request", row=index)
    raise AssertionError("rows of one allowed kind were handled above")


def _refuse_columns(index: int, found: Iterable[str], names: Sequence[str]) -> NoReturn:
    keys = set(found)
    for name in names:
        if name not in keys:
            raise InvalidRowsError(
                "the column is missing; send null where its value is unknown", row=index, column=name
            )
    unknown = next(key for key in found if key not in set(names))
    known = ", ".join(names[:_SHOWN_NAMES]) + (", …" if len(names) > _SHOWN_NAMES else "")
    raise InvalidRowsError(f"the model has no such column; it has {known}", row=index, column=unknown[:80])


def _numbers(rows: Sequence[Sequence[Any]], names: Sequence[str]) -> Array:
    """float32, flat in the order of the rows."""
    import numpy as np

    flat = list(chain.from_iterable(rows))
    kinds = set(map(type, flat))
    if not kinds <= _NUMBER_TYPES:
        _refuse_number(flat, names)
    try:
        with np.errstate(over="ignore"):
            numbers = np.array(flat, dtype=np.float32)
    except OverflowError:
        _refuse_number(flat, names)
    finite = np.isfinite(numbers)
    if not finite.all() and finite.sum() != len(flat) - flat.count(None):
        _refuse_number(flat, names)
    return numbers


def _column_of_numbers(name: str, values: list[Any]) -> Array:
    return _numbers([[value] for value in values], [name])


def _refuse_number(flat: Sequence[Any], names: Sequence[str]) -> NoReturn:
    for position, value in enumerate(flat):
        problem = _number_problem(value)
        if problem is not None:
            row, column = divmod(position, len(names))
            raise InvalidRowsError(problem, row=row, column=names[column])
    raise AssertionError("a number was refused that has no fault")


def _number_problem(value: object) -> str | None:
    if type(value) not in _NUMBER_TYPES:
        return f"{_shown(value)} is not a number"
    if isinstance(value, float) and not math.isfinite(value):
        return "the number is not finite; send null where a value is unknown"
    largest_float32 = 3.4028235677973366e38
    if isinstance(value, int | float) and abs(value) >= largest_float32:
        return "the number is too large for the model"
    return None


def _column_of_text(name: str, values: list[Any]) -> Array:
    import numpy as np

    if not set(map(type, values)) <= _TEXT_TYPES:
        row = next(index for index, value in enumerate(values) if type(value) not in _TEXT_TYPES)
        raise InvalidRowsError(f"{_shown(values[row])} is not text; this column is a category", row=row, column=name)
    texts = ["" if value is None else value for value in values]
    for row, text in enumerate(texts):
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            raise InvalidRowsError("the text is not valid Unicode", row=row, column=name)
    return np.array(texts, dtype=object)


def _images(shape: tuple[int, int, int], rows: list[Any]) -> Array:
    import numpy as np

    pixels = b"".join([_pixels(shape, index, row) for index, row in enumerate(rows)])
    return np.frombuffer(pixels, dtype=np.uint8).reshape(len(rows), *shape)


def _pixels(shape: tuple[int, int, int], index: int, image: object) -> bytes:
    """The image's values in C order; its shape is checked level by level before anything is joined."""
    height, width, channels = shape
    wanted = f"[{height}][{width}][{channels}]" + (f" or [{height}][{width}]" if channels == 1 else "")
    level: list[Any] = [image]
    for length in (height, width):
        level = _one_level_down(level, length, wanted, index)
    if channels > 1 or type(level[0]) is list:
        level = _one_level_down(level, channels, wanted, index)
    if set(map(type, level)) == {int}:
        try:
            return bytes(level)
        except ValueError:
            pass
    value = next(value for value in level if type(value) is not int or not 0 <= value <= 255)
    raise InvalidRowsError(f"{_shown(value)} is not an integer from 0 to 255", row=index)


def _one_level_down(level: list[Any], length: int, wanted: str, index: int) -> list[Any]:
    if set(map(type, level)) != {list} or set(map(len, level)) != {length}:
        raise InvalidRowsError(f"the image is not a list of the shape {wanted}", row=index)
    return list(chain.from_iterable(level))


def _shown(value: object) -> str:
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int):
        # The digits of a huge integer take quadratic time.
        return str(value) if abs(value) < 10**20 else "a huge integer"
    text = f"{value:.6g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= 40 else text[:37] + "…"
