"""Where a CSV may be cut: at line breaks, if none of them stands inside quotes."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.data.spark import parts
from windlass.data.spark.parts import breaks_end_rows, quotes_of_range


def ends_rows(path: Path, data: bytes, range_bytes: int) -> bool:
    path.write_bytes(data)
    bounds = [*range(0, len(data), range_bytes), len(data)]
    return breaks_end_rows(quotes_of_range((str(path), *pair)) for pair in itertools.pairwise(bounds))


@given(
    text=st.text(alphabet='a",\n', min_size=1, max_size=60),
    range_bytes=st.integers(1, 70),
    chunk_bytes=st.integers(1, 9),
)
def test_a_file_is_cut_only_if_each_of_its_lines_has_an_even_number_of_quotes(
    tmp_path_factory: pytest.TempPathFactory, text: str, range_bytes: int, chunk_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "_CHUNK_BYTES", chunk_bytes)
        if ends_rows(path, text.encode(), range_bytes):
            assert all(line.count('"') % 2 == 0 for line in text.split("\n"))


@pytest.mark.parametrize("range_bytes", [64, 1000])
@pytest.mark.parametrize(
    ("line", "may_be_cut"), [('1,"a ""b"", c"\n', True), ("1,a\n", True), ('1,"a\nb"\n', False), ('1,"a\n', False)]
)
def test_quotes_that_end_on_their_line_do_not_keep_a_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, may_be_cut: bool, range_bytes: int
) -> None:
    monkeypatch.setattr(parts, "_CHUNK_BYTES", 32)
    assert ends_rows(tmp_path / "a.csv", b"x,y\n" + 40 * line.encode(), range_bytes) == may_be_cut
