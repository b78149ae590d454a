from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from report_facts import BUDGET, write_classes, write_images, write_numbers
from windlass.evaluation.analysis.documents import Analysis
from windlass.evaluation.documents import Evaluation, Verdict
from windlass.evaluation.report.frontier import log_ticks

VOID = ("meta", "br", "img")


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classes(tmp_path_factory.mktemp("classes"))


@pytest.fixture(scope="module")
def page(classes: Path) -> str:
    return classes.read_text(encoding="utf-8")


def test_the_first_sentence_is_the_verdict_and_says_by_what(page: str) -> None:
    text = _text(page)
    verdict = "✓ inside the budget pruned-30+int8 was chosen: with 61.0 KB it is the only candidate inside the budget."
    assert verdict in text
    assert text.index(verdict) < text.index("What was asked")
    assert "5.8 times smaller than fp32" in text


def test_the_parts_come_in_the_order_of_a_readers_questions(page: str) -> None:
    assert re.findall(r'<section id="([a-z]+)"', page) == [
        "asked", "data", "training", "candidates", "frontier", "mistakes", "closer", "cost", "others", "lineage",
        "recipe", "again",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "told",
    [
        "accuracy lost against fp32 at most 0.0100 0.0060 ✓ 60 %",
        "virginica <b> 248 48 42",
        "column plant_id left out: a name of its own for every row",
        "3 rows left out: the target is missing",
        "petal_width number (x − 1) / 0.6, and whether it is missing",
        "3 min 20 s with 2 workers on cpu (9,000 examples a second). The weights of epoch 10 were kept",
        "fp32 is better than the linear model, which was fitted on 700 rows of train: by 0.0300 of accuracy",
        "was read 12 times so far: each reading that you act upon makes these figures more optimistic",
        "petal_width from 1.2 to 1.7 and colour is blue 31 0.2000",
        "petal_width missing 0.9000",
        "Equalized odds difference: 0.0800 (0.0700 to 0.0900)",
        "What pruned-30+int8 loses of accuracy when a column is shuffled",
        "int8: p50 at batch 8 moved by 14 % between rounds",
        "± 3.0 %",
        "pruned-30+int8: which layers stayed in fp32",
        "last 0.034 fp32 first 0.0021 int8",
        "± 50 %, estimated",
        "distilled-50+int8 is outside the budget: drop 0.0300 is 0.0200 over the most allowed 0.0100",
        "pruned-30+int8 was made to win back what distilled-50+int8 lost: from a drop of 0.0300 to 0.0060",
        "low-rank: no layer is large enough",
        "The frontier had settled: the last three candidates were neither smaller nor better.",
        "b" * 64,
        "d" * 32,
        "windlass run irises.yaml",
    ],
)
def test_what_was_found_is_in_the_page(page: str, told: str) -> None:
    assert told in _text(page)


def test_residuals_by_decile_take_the_place_of_classes_for_numbers(tmp_path: Path) -> None:
    page = write_numbers(tmp_path).read_text(encoding="utf-8")
    assert "Answer minus species by tenths of the answers" in _text(page)
    assert "Confusion matrix" not in page
    assert "mean error" in _text(page)
    assert "(y − 200,000) / 90,000, undone in the answer" in _text(page)


def test_pictures_of_each_class_and_their_explanations_lie_in_the_page(tmp_path: Path) -> None:
    page = write_images(tmp_path).read_text(encoding="utf-8")
    assert page.count('alt="Row of train of class setosa"') == 6
    assert "Which pixels speak for versicolor, to fp32" in page
    parser = _Page()
    parser.feed(page)
    assert parser.loads == []


def test_a_run_without_winner_says_what_would_have_to_change(tmp_path: Path) -> None:
    page = _text(write_classes(tmp_path, budget={**BUDGET, "max_size": 100}).read_text(encoding="utf-8"))
    assert "✕ nothing inside the budget" in page
    assert "The smallest change that lets one in: budget.max_size=" in page
    assert "how much of it pruned-30+int8 takes, which was not chosen" in page
    assert "test, read" not in page
    assert "Of the budget, size of at most 100 B lies to the left of what is shown." in page


def test_a_model_no_better_than_a_trivial_one_is_said_to_be_so_before_anything_else(tmp_path: Path) -> None:
    note = "the model does not beat the linear model: 0.9700 against 0.9650 of accuracy"
    page = _text(write_classes(tmp_path, notes=(note,)).read_text(encoding="utf-8"))
    assert page.index(note) < page.index("inside the budget")


def test_a_run_that_was_not_analysed_has_no_empty_part(tmp_path: Path) -> None:
    page = write_classes(tmp_path, analysed=False).read_text(encoding="utf-8")
    assert 'id="closer"' not in page
    assert "#closer" not in page


def test_the_page_is_well_formed_small_and_names_no_address_to_load(classes: Path, page: str) -> None:
    parser = _Page()
    parser.feed(page)
    assert parser.open_tags == []
    assert classes.stat().st_size < 2_000_000
    assert parser.loads == []
    assert not re.search(r"@import|url\(", page[: page.index("</style>")])
    assert "nan" not in _text(page).lower().split()
    assert "None" not in _text(page)


def test_report_json_holds_the_documents_that_the_page_shows(classes: Path) -> None:
    document = json.loads((classes.parent / "report.json").read_text(encoding="utf-8"))
    assert Verdict.model_validate(document["verdict"]).winner == "pruned-30+int8"
    assert len(Evaluation.model_validate(document["evaluation"]).measurements) == 4
    assert Analysis.model_validate(document["analysis"]).uncompressed == "fp32"
    assert document["lineage"]["train"]["digest"] == "b" * 64


def test_figures_lie_beside_the_page_as_svg_and_tables_as_columns_and_rows(classes: Path) -> None:
    figures = {path.name for path in (classes.parent / "figures").iterdir()}
    assert {"loss.svg", "frontier-size.svg", "frontier-p95-batch-1.svg", "calibration.svg"} <= figures
    table = json.loads((classes.parent / "tables" / "candidates.json").read_text(encoding="utf-8"))
    assert table["columns"][:3] == ["candidate", "chosen", "fits"]
    assert [row[0] for row in table["data"]] == ["fp32", "int8", "pruned-30+int8", "distilled-50+int8"]


@pytest.mark.parametrize(("low", "high"), [(9.8e-3, 12.6e-3), (3.5, 36.0), (0.9e6, 4e8), (61_000.0, 62_000.0)])
def test_a_cost_axis_has_round_ticks_however_near_or_far_the_candidates_are(low: float, high: float) -> None:
    ticks = log_ticks(low, high)
    assert 3 <= len(ticks) <= 12
    assert all(low <= tick <= high and float(f"{tick:.3g}") == pytest.approx(tick) for tick in ticks)


class _Page(HTMLParser):
    """What is open, what would be loaded, and the text between."""

    def __init__(self) -> None:
        super().__init__()
        self.open_tags: list[str] = []
        self.loads: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in VOID:
            self.open_tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "action", "srcset") and not value.startswith(("#", "data:")):
                self.loads.append(value)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open_tags.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open_tags and self.open_tags[-1] not in ("script", "style"):
            self.text.append(data)


def _text(page: str) -> str:
    """The visible text with single spaces."""
    parser = _Page()
    parser.feed(page)
    return re.sub(r"\s+([.,;:])", r"\1", " ".join(" ".join(parser.text).split()))
