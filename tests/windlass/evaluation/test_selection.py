from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from windlass.evaluation.compare import compare
from windlass.evaluation.config import BudgetConfig, EvaluateConfig
from windlass.evaluation.documents import (
    MEASUREMENT_NAME,
    PREDICTIONS_NAME,
    Comparison,
    Evaluation,
    Interval,
    Latency,
    Measurement,
    Memory,
)
from windlass.evaluation.selection import judge_test, select_candidate
from windlass.storage import Reference

TASK = "tabular-classification"


def measurement(name: str, **changes: Any) -> Measurement:
    fields: dict[str, Any] = {
        "candidate": name,
        "variant": Reference(uri=name, digest="0" * 64),
        "rows": 200,
        "metric": "accuracy",
        "quality": {"accuracy": Interval(point=0.95, low=0.93, high=0.97)},
        "size_bytes": 150_000,
        "latency": tuple(
            Latency(
                batch_size=size, p50_ms=0.1 * size, p95_ms=0.2 * size, p99_ms=0.3 * size, runs=100, rows_per_s=9000.0
            )
            for size in (1, 8, 32)
        ),
        "memory": Memory(total_bytes=75_000_000, peak_bytes=80_000_000, interpreter_bytes=60_000_000, method="pss"),
        "batch_invariant": True,
        "threads": 1,
        "machine": "a machine",
    }
    return Measurement(**(fields | changes))


def evaluation(*others: Measurement, drop: float = 0.0) -> Evaluation:
    interval = Interval(point=drop, low=drop - 0.01, high=drop + 0.01)
    return Evaluation(
        uncompressed="fp32",
        measurements=(measurement("fp32"), *others),
        comparisons=tuple(Comparison(candidate=m.candidate, drop=interval, agreement=0.99) for m in others),
    )


def test_smallest_candidate_inside_the_budget_wins_and_the_other_is_told_why() -> None:
    verdict = select_candidate(
        evaluation(measurement("int8", size_bytes=50_000)), BudgetConfig(max_size=200_000), task=TASK
    )
    assert (verdict.exit_code, verdict.winner) == (0, "int8")
    loser, winner = verdict.candidates
    assert loser.fits
    assert loser.reason == "fp32 fits, but is 100.0 KB larger than int8, 3.0 times its size."
    assert winner.reason == "int8 was chosen: with 50.0 KB it is the smallest of the 2 candidates inside the budget."


def test_equally_small_candidates_are_decided_by_latency_at_the_budgets_batch_size() -> None:
    slow, fast = (
        Latency(batch_size=size, p50_ms=p50, p95_ms=9, p99_ms=9, runs=9, rows_per_s=9000.0)
        for size, p50 in ((32, 4.0), (32, 2.0))
    )
    one = Latency(batch_size=1, p50_ms=0.1, p95_ms=0.1, p99_ms=0.1, runs=9, rows_per_s=9000.0)
    found = evaluation(
        measurement("slow", size_bytes=50_000, latency=(one, slow)),
        measurement("fast", size_bytes=50_000, latency=(one, fast)),
    )
    verdict = select_candidate(found, BudgetConfig(batch_size=32), task=TASK)
    assert verdict.winner == "fast"
    assert verdict.candidates[1].reason == "slow fits and is as small as fast, but 2 ms slower."


@pytest.mark.parametrize(
    ("budget", "told"),
    [
        ({"max_size": 60_000}, "size 150.0 KB is 90.0 KB over the most allowed 60.0 KB"),
        ({"min_quality": 0.97}, "quality 0.9500 is 0.0200 below the least allowed 0.9700"),
        ({"max_latency_p50_ms": 0.05}, "p50 latency 0.1 ms is 0.05 ms over the most allowed 0.05 ms"),
        ({"max_latency_p95_ms": 2, "batch_size": 32}, "p95 latency 6.4 ms is 4.4 ms over the most allowed 2 ms"),
        ({"max_memory": 50_000_000}, "memory 80.0 MB is 30.0 MB over the most allowed 50.0 MB"),
    ],
)
def test_candidate_outside_the_budget_is_told_by_how_much(budget: dict[str, Any], told: str) -> None:
    verdict = select_candidate(evaluation(), BudgetConfig(**budget), task=TASK)
    assert verdict.candidates[0].reason == f"fp32 is outside the budget: {told}."
    (miss,) = verdict.candidates[0].misses
    assert miss.limit in budget
    assert miss.allowed == budget[miss.limit]


def test_drop_over_the_limit_leaves_the_uncompressed_model_as_winner() -> None:
    verdict = select_candidate(
        evaluation(measurement("int8", size_bytes=50_000), drop=0.02), BudgetConfig(max_quality_drop=0.01), task=TASK
    )
    assert verdict.winner == "fp32"
    assert "drop 0.0200 is 0.0100 over the most allowed 0.0100" in verdict.candidates[1].reason


def test_nobody_inside_the_budget_ends_with_3_and_the_smallest_change_that_helps() -> None:
    budget = BudgetConfig(max_size=60_000, max_quality_drop=0.01)
    verdict = select_candidate(evaluation(measurement("int8", size_bytes=61_234), drop=0.0), budget, task=TASK)
    assert (verdict.exit_code, verdict.winner, verdict.test) == (3, None, ())
    assert verdict.sentence == (
        "No candidate is inside the budget, nothing was registered. "
        "The smallest change that lets one in: budget.max_size=62KB, then int8 fits."
    )


def test_change_that_is_proposed_lets_that_candidate_in() -> None:
    budget = BudgetConfig(max_size=60_000, max_quality_drop=0.0, max_latency_p95_ms=0.1, min_quality=0.99)
    found = evaluation(measurement("int8", size_bytes=61_234), drop=0.0123)
    sentence = select_candidate(found, budget, task=TASK).sentence
    changes = dict(part.split("=") for part in sentence.replace(",", " ").split() if part.startswith("budget."))
    loosened = budget.model_dump() | {key.removeprefix("budget."): value for key, value in changes.items()}
    assert select_candidate(found, BudgetConfig.model_validate(loosened), task=TASK).winner is not None
    assert "More training may also raise its accuracy." in sentence


Tested = Callable[[float], list[Path]]


@pytest.fixture
def tested(tmp_path: Path) -> Tested:
    """Measurements on test of fp32, right in 95 % of 400 rows, and of int8, wrong in a given further share."""

    def make(lost: float) -> list[Path]:
        rng = np.random.default_rng(0)
        targets = rng.integers(0, 2, 400)
        directories = []
        for name, wrong in (("fp32", 0.05), ("int8", 0.05 + lost)):
            answers = np.where(np.arange(400) < round(400 * wrong), 1 - targets, targets)
            predictions = np.eye(2, dtype=np.float32)[answers]
            directory = tmp_path / name
            directory.mkdir()
            accuracy = Interval(point=1 - wrong, low=1 - wrong - 0.02, high=1 - wrong + 0.02)
            measurement(name, rows=400, quality={"accuracy": accuracy}).write(directory / MEASUREMENT_NAME)
            np.savez(directory / PREDICTIONS_NAME, predictions=predictions, targets=targets)
            directories.append(directory)
        return directories

    return make


@pytest.mark.parametrize(("lost", "exit_code"), [(0.0, 0), (0.0125, 0), (0.1, 4)])
def test_drop_on_test_that_is_surely_over_the_limit_ends_with_4(tested: Tested, lost: float, exit_code: int) -> None:
    budget, config = BudgetConfig(max_quality_drop=0.01), EvaluateConfig(bootstrap=300)
    chosen = select_candidate(evaluation(measurement("int8", size_bytes=50_000)), budget, task=TASK)
    verdict = judge_test(chosen, tested(lost), budget, task=TASK, config=config, reads=7)
    assert verdict.exit_code == exit_code
    assert verdict.winner == "int8"
    assert {result.candidate for result in verdict.test} == {"fp32", "int8"}
    assert verdict.test_reads == 7
    assert verdict.test_drop is not None
    assert verdict.test_drop.point == pytest.approx(lost)
    assert ("registered without alias" in verdict.sentence) == (exit_code == 4)


def test_quality_on_test_that_is_surely_too_low_ends_with_4(tested: Tested) -> None:
    budget, config = BudgetConfig(min_quality=0.94), EvaluateConfig(bootstrap=300)
    chosen = select_candidate(evaluation(measurement("int8", size_bytes=50_000)), budget, task=TASK)
    verdict = judge_test(chosen, tested(0.1), budget, task=TASK, config=config, reads=1)
    assert verdict.exit_code == 4
    assert "its quality is 0.8500 (0.8300 to 0.8700), wholly below the limit of 0.94" in verdict.sentence


def test_uncompressed_winner_has_no_drop_on_test(tested: Tested) -> None:
    budget, config = BudgetConfig(max_quality_drop=0.0), EvaluateConfig(bootstrap=100)
    chosen = select_candidate(evaluation(), budget, task=TASK)
    verdict = judge_test(chosen, tested(0.1)[:1], budget, task=TASK, config=config, reads=1)
    assert verdict.exit_code == 0
    assert verdict.test_drop == Interval(point=0, low=0, high=0)


def test_comparison_is_paired_by_row(tested: Tested) -> None:
    found = compare(tested(0.1), uncompressed="fp32", config=EvaluateConfig(bootstrap=1000), task=TASK)
    (comparison,) = found.comparisons
    assert comparison.agreement == pytest.approx(0.9)
    spread = np.sqrt(0.1 * 0.9 / 400)
    assert comparison.drop.low == pytest.approx(0.1 - 1.96 * spread, abs=0.006)
    assert comparison.drop.high == pytest.approx(0.1 + 1.96 * spread, abs=0.006)


def test_nobody_loses_by_the_rounding_of_binary_fractions() -> None:
    found = evaluation(measurement("int8", size_bytes=50_000), drop=0.99 - 0.98)
    assert select_candidate(found, BudgetConfig(max_quality_drop=0.01), task=TASK).winner == "int8"
