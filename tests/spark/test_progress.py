from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from windlass import progress

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("small_parts")]


def test_each_piece_of_work_has_a_bar_of_its_own_that_never_falls(
    tmp_path: Path, prepare_table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(progress.EVENTS_VARIABLE, raising=False)
    monkeypatch.setattr("windlass.data.spark.engine._POLL_S", 0.02)
    monkeypatch.setattr("windlass.progress._EVENT_INTERVAL_S", 0.0)
    rows = "".join(f"{i % 901}.{i},{'abc'[i % 3]},{i % 2}\n" for i in range(20_000))
    (tmp_path / "a.csv").write_text(f"size,kind,y\n{rows}")
    events: list[dict[str, Any]] = []
    with progress.shown_by(events.append):
        prepare_table("spark", str(tmp_path / "a.csv"))
    works = ["counting quotes", "reading rows", "checking rows", "writing shards"]
    started = [event["name"] for event in events if event["kind"] == "started"]
    assert list(dict.fromkeys(started)) == ["prepare", *(f"prepare: {work}" for work in works)]
    for work in works[1:]:
        told = [event for event in events if event["name"] == f"prepare: {work}"]
        bars = [list(bar) for shown, bar in itertools.groupby(told, lambda e: e["kind"] == "progress") if shown]
        assert bars, f"nothing was told of {work}"
        for bar in bars:
            done = [event["done"] for event in bar]
            assert done == sorted(done)
            assert all(event["done"] <= event["total"] for event in bar)
