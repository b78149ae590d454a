from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from windlass.data.description import DATASET_NAME, DatasetDescription
from windlass.evaluation.compare import compare
from windlass.evaluation.config import BudgetConfig, EvaluateConfig
from windlass.evaluation.documents import Evaluation, Verdict
from windlass.evaluation.measure import measure
from windlass.evaluation.report import write_report
from windlass.evaluation.selection import judge_test, select_candidate
from windlass.storage import Reference
from windlass.variants.config import ServeConfig

TASK = "tabular-classification"
CONFIG = EvaluateConfig(latency_seconds=0.02, bootstrap=200)
HISTORY = [
    {"epoch": epoch, "step": 10 * epoch, "train_loss": 1 / epoch, "validation_loss": 1.1 / epoch, "metric": 0.9}
    for epoch in range(1, 9)
]


@pytest.fixture
def measured(bundle: Path, make_served: Callable[..., Path], tmp_path: Path) -> Callable[[str], list[Path]]:
    variants = {"fp32": make_served("fp32", padding_bytes=4000), "int8": make_served("int8", noise=0.1)}

    def run(split: Any) -> list[Path]:
        directories = []
        for name, variant in variants.items():
            output = tmp_path / f"{name}-{split}"
            output.mkdir()
            reference = Reference(uri=str(variant), digest="1" * 64)
            measure(
                name,
                variant=variant,
                reference=reference,
                dataset=bundle,
                output=output,
                task=TASK,
                config=CONFIG,
                serve=ServeConfig(),
                split=split,
            )
            directories.append(output)
        return directories

    return run


def _write(output: Path, bundle: Path, verdict: Verdict, evaluation: Evaluation, **recipe: Any) -> str:
    write_report(
        output,
        recipe={"name": "answers", "task": TASK, "budget": {"max_size": 60_000, "min_quality": None}} | recipe,
        verdict=verdict,
        evaluation=evaluation,
        dataset=DatasetDescription.read(bundle / DATASET_NAME),
        history=HISTORY,
        links={"dataset": "file:///data", "model": "file:///model"},
    )
    return (output / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_report_tells_all_from_measurement_to_verdict_in_one_file(
    bundle: Path, measured: Callable[[str], list[Path]], tmp_path: Path
) -> None:
    evaluation = compare(measured("validation"), uncompressed="fp32", config=CONFIG, task=TASK)
    budget = BudgetConfig(max_size=60_000)
    verdict = select_candidate(evaluation, budget, task=TASK)
    verdict = judge_test(verdict, measured("test"), budget, task=TASK, config=CONFIG, reads=12)
    page = _write(tmp_path, bundle, verdict, evaluation)

    assert verdict.sentence in page
    assert "✓ inside the budget" in page
    assert "fp32 fits, but is 4.0 KB larger than int8" in page
    assert "read 12 times so far: each reading that you act upon" in page
    assert page.count("<svg") == 2
    assert 'class="matrix"' in page
    assert "the column &#39;names&#39; says nothing" in page
    assert "max_size 60.0 KB" in page
    assert "windlass run answers.yaml" in page
    assert "NaN" not in page
    assert "None" not in page
    document = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert Verdict.model_validate(document["verdict"]) == verdict
    assert Evaluation.model_validate(document["evaluation"]) == evaluation
    _assert_well_formed(page)
    _assert_asks_nothing_of_the_network(page)


def test_report_of_a_run_without_winner_says_what_would_have_to_change(
    bundle: Path, measured: Callable[[str], list[Path]], tmp_path: Path
) -> None:
    evaluation = compare(measured("validation"), uncompressed="fp32", config=CONFIG, task=TASK)
    verdict = select_candidate(evaluation, BudgetConfig(max_size=100), task=TASK)
    page = _write(tmp_path, bundle, verdict, evaluation)
    assert "✕ nothing inside the budget" in page
    assert "The smallest change that lets one in: budget.max_size=" in page
    assert "Test, read once" not in page
    _assert_well_formed(page)


def test_names_from_a_user_are_text_in_the_report(
    bundle: Path, measured: Callable[[str], list[Path]], tmp_path: Path
) -> None:
    evaluation = compare(measured("validation"), uncompressed="fp32", config=CONFIG, task=TASK)
    verdict = select_candidate(evaluation, BudgetConfig(), task=TASK)
    page = _write(tmp_path, bundle, verdict, evaluation, name="<script>alert(1)</script>")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page


class _Tags(HTMLParser):
    open_tags: list[str]

    def __init__(self) -> None:
        super().__init__()
        self.open_tags = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in ("meta", "br"):
            self.open_tags.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open_tags.pop() == tag


def _assert_asks_nothing_of_the_network(page: str) -> None:
    assert not re.search(r"""(src|href|action)\s*=|@import|url\(|<script|<link|<iframe""", page)


def _assert_well_formed(page: str) -> None:
    tags = _Tags()
    tags.feed(page)
    assert tags.open_tags == []
