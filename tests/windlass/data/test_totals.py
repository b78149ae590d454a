from __future__ import annotations

import pytest

from windlass.data.totals import Summed, Totals

BY_KIND = Totals(("kind", "class"), ("x",), most=3)


def test_sums_of_parts_are_summed_by_key_and_a_sum_of_nothing_is_nought() -> None:
    summed = Summed(BY_KIND)
    summed.add([(0, "a", 2, 2**40), (1, None, 1, 5)])
    summed.add([(0, "a", 1, 2**70), (0, "b", 4, None)])
    assert sorted(summed.rows or [], key=repr) == [(0, "a", 3, 2**40 + 2**70), (0, "b", 4, 0), (1, None, 1, 5)]


@pytest.mark.parametrize(
    "parts",
    [[[(0, "a", 1, 1), (0, "b", 1, 1)], [(0, "c", 1, 1), (0, "d", 1, 1)]], [[(0, "a", 1, 1)], None]],
    ids=["together", "one alone"],
)
def test_of_more_keys_than_are_wanted_nothing_is_told(parts: list[list[tuple[object, ...]] | None]) -> None:
    summed = Summed(BY_KIND)
    for part in [*parts, [(0, "a", 1, 1)]]:
        summed.add(part)
    assert summed.rows is None
