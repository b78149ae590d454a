from __future__ import annotations

import json
from pathlib import Path

import pytest

from windlass.progress import EVENTS_VARIABLE, message, shown_by, track


def test_progress_goes_to_the_events_file_as_lines_of_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = tmp_path / "events.jsonl"
    monkeypatch.setenv(EVENTS_VARIABLE, str(events))
    with track("reading", total=3, unit="rows") as bar:
        bar.advance(2, loss=0.5)
    message("done")
    read = [json.loads(line) for line in events.read_text().splitlines()]
    assert [event["kind"] for event in read] == ["started", "progress", "finished", "message"]
    assert read[1]["done"] == 2
    assert read[1]["figures"] == {"loss": 0.5}
    assert read[2]["done"] == 2


def test_without_an_events_file_people_read_a_plain_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(EVENTS_VARIABLE, raising=False)
    with track("reading", total=3, unit="rows") as bar:
        bar.advance(2, loss=0.5)
    message("a warning")
    shown = capsys.readouterr().err
    assert "reading: 2/3 rows" in shown
    assert "loss 0.5" in shown
    assert "a warning" in shown


def test_a_process_that_draws_bars_gets_its_own_reports_and_prints_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(EVENTS_VARIABLE, raising=False)
    seen: list[dict[str, object]] = []
    with shown_by(seen.append), track("reading", total=3, unit="rows") as bar:
        bar.advance(2)
        message("a warning")
    assert [event["kind"] for event in seen] == ["started", "progress", "message", "finished"]
    assert capsys.readouterr().err == ""
