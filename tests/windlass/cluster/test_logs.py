"""Lines of a log that is read again from some second on, and the part of it that says what happened."""

from __future__ import annotations

from windlass.cluster._logs import LogCursor, nanoseconds
from windlass.cluster._tail import what_happened


def _show(cursor: LogCursor, *lines: str) -> list[str]:
    return [text for line in lines if (text := cursor.new_text(line)) is not None]


def test_a_log_that_is_read_again_gives_each_line_once() -> None:
    cursor = LogCursor()
    assert _show(cursor, "2026-01-01T00:00:01.1Z a", "2026-01-01T00:00:01.25Z b") == ["a", "b"]
    cursor.rewind()
    again = ("2026-01-01T00:00:01.1Z a", "2026-01-01T00:00:01.25Z b", "2026-01-01T00:00:01.3Z c")
    assert _show(cursor, *again) == ["c"]


def test_lines_of_the_same_nanosecond_are_told_apart_by_their_number() -> None:
    cursor = LogCursor()
    assert _show(cursor, "2026-01-01T00:00:01Z a", "2026-01-01T00:00:01Z a") == ["a", "a"]
    cursor.rewind()
    assert _show(cursor, *["2026-01-01T00:00:01Z a"] * 3) == ["a"]


def test_a_clock_that_is_set_back_loses_no_line() -> None:
    cursor = LogCursor()
    assert _show(cursor, "2026-01-01T00:00:09Z a", "2026-01-01T00:00:02Z b") == ["a", "b"]


def test_a_log_is_asked_for_again_from_its_last_line_on() -> None:
    cursor = LogCursor()
    assert cursor.since is None
    _show(cursor, "2026-01-01T00:00:01.1Z a")
    assert cursor.since == "2026-01-01T00:00:01.1Z"


def test_what_the_kubelet_says_of_a_log_is_no_line_of_it() -> None:
    assert _show(LogCursor(), "unable to retrieve container logs for containerd://1a2b") == []


def test_an_empty_line_is_a_line() -> None:
    assert _show(LogCursor(), "2026-01-01T00:00:01.1Z ") == [""]


def test_timestamps_compare_as_numbers_whatever_their_digits_and_zone() -> None:
    assert nanoseconds("1970-01-01T00:00:01.1Z") == 1_100_000_000
    assert nanoseconds("1970-01-01T01:00:01.000000001+01:00") == 1_000_000_001
    assert nanoseconds("1970-01-01T00:00:02Z") == 2_000_000_000


def test_the_first_traceback_is_what_happened() -> None:
    rank = [
        "[rank1]: Traceback (most recent call last):",
        '[rank1]:   File "train.py", line 1',
        "[rank1]: ValueError: no",
    ]
    agent = ["Traceback (most recent call last):", '  File "torchrun"', "ChildFailedError: train.py FAILED"]
    assert what_happened(["epoch 1", *rank, "", *agent]) == "\n".join(rank)


def test_chained_tracebacks_stay_together() -> None:
    first = ["Traceback (most recent call last):", "  File a", "KeyError: 'x'", ""]
    second = [
        "During handling of the above exception, another exception occurred:",
        "",
        "Traceback (most recent call last):",
    ]
    chain = [*first, *second, "  File b", "ValueError: y"]
    assert what_happened([*chain, "goodbye"]) == "\n".join(chain)


def test_without_a_traceback_the_last_lines_are_what_happened() -> None:
    assert what_happened([str(number) for number in range(100)]) == "\n".join(str(number) for number in range(80, 100))


def test_a_traceback_that_was_cut_off_is_shown_as_far_as_it_goes() -> None:
    cut = ["Traceback (most recent call last):", "  File a"]
    assert what_happened(cut) == "\n".join(cut)
