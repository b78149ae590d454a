"""The events of a run as bars, lines and JSON."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from windlass_cli.console import duration, figure
from windlass_cli.display import BarDisplay, LineDisplay, _RateColumn, open_display

FINISHED = {"kind": "step", "time": 3.0, "step": "train", "status": "finished", "cached": False, "seconds": 2.5}


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "time": 10.0, "name": "epochs", "total": 8.0, "unit": "steps", **fields}


def test_lines_name_a_step_its_time_and_its_figures() -> None:
    shown = io.StringIO()
    LineDisplay(Console(file=shown)).show({**FINISHED, "summary": {"test_accuracy": 0.98765}})
    assert shown.getvalue().split() == ["train", "2.5", "s", "test", "accuracy", "0.9877"]


def test_lines_say_when_a_step_was_done_before() -> None:
    shown = io.StringIO()
    LineDisplay(Console(file=shown)).show({**FINISHED, "cached": True, "summary": {}})
    assert "done before" in shown.getvalue()


def test_lines_show_progress_with_rate_and_remaining_time_but_not_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    display = LineDisplay(Console(file=shown))
    display.show(event("started"))
    display.show(event("progress", time=12.0, done=4.0, figures={"loss": 0.5}))
    assert shown.getvalue() == ""
    monkeypatch.setattr(display, "_shown_s", float("-inf"))
    display.show(event("progress", time=12.0, done=4.0, figures={"loss": 0.5}))
    assert shown.getvalue().strip() == "epochs: 4/8 steps, 2/s, 2.0 s left  loss 0.5"


def test_bars_show_what_is_under_way_and_leave_a_line_per_step() -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=120)
    with Progress(TextColumn("{task.description}"), _RateColumn(), console=console) as progress:
        display = BarDisplay(progress)
        display.show({"kind": "step", "time": 1.0, "step": "train", "status": "started"})
        display.show(event("started"))
        display.show(event("progress", done=4.0, figures={"loss": 0.5}))
        assert [task.description for task in progress.tasks] == ["[bold]train[/bold]", "  epochs"]
        assert progress.tasks[1].completed == 4.0
        display.show({**FINISHED, "summary": {"accuracy": 1.0}})
        assert progress.tasks == []
    assert "✓" in shown.getvalue()


def test_a_message_is_text_and_never_markup() -> None:
    shown = io.StringIO()
    LineDisplay(Console(file=shown)).show({"kind": "message", "time": 1.0, "text": "column [red] was left out"})
    assert "column [red] was left out" in shown.getvalue()


def test_json_events_are_lines_on_stderr_and_stdout_stays_clean(capsys: pytest.CaptureFixture[str]) -> None:
    with open_display(as_json=True) as display:
        display.show(event("progress", done=4.0))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err)["done"] == 4.0


@pytest.mark.parametrize(("value", "text"), [(0.123456, "0.1235"), (1797, "1,797"), (12345.67, "12,345.7"), ("x", "x")])
def test_figures_have_four_digits_that_count(value: float | str, text: str) -> None:
    assert figure(value) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.42, "0.4 s"), (59, "59 s"), (185, "3:05"), (3723, "1:02:03")])
def test_durations_are_written_as_people_read_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
