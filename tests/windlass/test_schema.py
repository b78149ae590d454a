from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.errors import CorruptedError
from windlass.schema import Document, canonical_json, digest_of, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("60KB", 60_000),
        ("60KiB", 61_440),
        ("1.5MB", 1_500_000),
        ("2 GiB", 2 * 2**30),
        ("17", 17),
        ("200mb", 200_000_000),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "KB", "60 KBs", "-3MB", "1e9", "60K B"])
def test_a_text_that_is_no_size_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="write it as 60KB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7200), ("1h30m", 5400), ("250ms", 0.25), ("1d", 86_400)]
)
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "h", "2 hours", "90", "-3s"])
def test_a_text_that_is_no_duration_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="write it as 90s"):
        parse_duration(text)


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.booleans()))
def test_equal_values_have_equal_digests_whatever_the_order_of_their_keys(value: dict[str, object]) -> None:
    backwards = dict(reversed(list(value.items())))
    assert canonical_json(value) == canonical_json(backwards)
    assert digest_of(value) == digest_of(backwards)


def test_sizes_are_shown_in_decimal_units() -> None:
    assert [format_size(size) for size in (12, 60_000, 1_500_000, 2 * 10**9)] == ["12 B", "60.0 KB", "1.5 MB", "2.0 GB"]


class _Note(Document):
    format_version: Literal[1] = 1
    text: str


def test_a_document_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    _Note(text="Grüße").write(tmp_path / "note.json")
    assert _Note.read(tmp_path / "note.json") == _Note(text="Grüße")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "Invalid JSON"),
        ('{"format_version": 2, "text": "x"}', "format_version"),
        ('{"format_version": 1}', "text: Field required"),
        ('{"format_version": 1, "text": "x", "extra": 1}', "extra"),
    ],
)
def test_a_document_of_another_form_is_refused_by_name(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "note.json"
    path.write_text(content)
    with pytest.raises(CorruptedError, match=says) as caught:
        _Note.read(path)
    assert "note.json is not a _Note" in str(caught.value)


def test_a_missing_document_names_its_path(tmp_path: Path) -> None:
    with pytest.raises(CorruptedError, match=r"note\.json is missing"):
        _Note.read(tmp_path / "note.json")
