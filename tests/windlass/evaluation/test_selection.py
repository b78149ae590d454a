from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from windlass.evaluation.bootstrap import Bootstrap
from windlass.evaluation.compare import at_confidence, compare
from windlass.evaluation.config import BudgetConfig, EvaluateConfig
from windlass.evaluation.documents import (
    MEASUREMENT_NAME,
    PREDICTIONS_NAME,
    Baseline,
    BudgetChange,
    Comparison,
    Consumption,
    Cost,
    Energy,
    Evaluation,
    Interval,
    Latency,
    Measurement,
    Memory,
)
from windlass.evaluation.errors import UndefinedMetricError
from windlass.evaluation.quality import Scored, read_predictions
from windlass.evaluation.resamples import write_resamples
from windlass.evaluation.selection import judge_test, select_candidate
from windlass.recipe.load import load_recipe
from windlass.storage import Reference
from windlass.tasks import get_task

TASK = "tabular-classification"
BATCH_SIZES = (1, 8, 32)


def around(point: float, width: float = 0.02) -> Interval:
    return Interval(point=point, low=point - width, high=point + width)


def measurement(name: str, *, joules: float = 2.0, **changes: Any) -> Measurement:
    """A candidate that is ten times slower at batch 8, and a hundred times at batch 32, than at batch 1."""
    energy = Energy(joules=joules, method="model", relative_error=0.5)
    fields: dict[str, Any] = {
        "candidate": name,
        "variant": Reference(uri=name, digest="0" * 64),
        "rows": 200,
        "metric": "accuracy",
        "quality": {"accuracy": around(0.95), "f1_macro": around(0.9), "log_loss": around(0.3)},
        "size_bytes": 150_000,
        "latency": tuple(
            Latency(
                batch_size=size,
                p50_ms=0.1 * times,
                p95_ms=0.2 * times,
                p99_ms=0.3 * times,
                runs=100,
                rows_per_s=9000 / times,
            )
            for size, times in zip(BATCH_SIZES, (1, 10, 100), strict=True)
        ),
        "memory": Memory(total_bytes=75_000_000, peak_bytes=80_000_000, interpreter_bytes=60_000_000, method="pss"),
        "batch_invariant": True,
        "threads": 1,
        "machine": "a machine",
        "cost": Cost(
            per_1000_rows=tuple(Consumption(batch_size=size, cpu_s=0.1, energy=energy) for size in BATCH_SIZES)
        ),
    }
    return Measurement(**(fields | changes))


def evaluation(*others: Measurement, drop: float = 0.0, **fields: Any) -> Evaluation:
    interval = around(drop, 0.01)
    return Evaluation(
        uncompressed="fp32",
        measurements=(measurement("fp32"), *others),
        comparisons=tuple(Comparison(candidate=m.candidate, drop=interval, agreement=0.99) for m in others),
        **fields,
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
    ("inside", "outside", "told"),
    [
        ({"max_size": "150KB"}, {"max_size": 60_000}, "size 150.0 KB is 90.0 KB over the most allowed 60.0 KB"),
        ({"min_quality": 0.95}, {"min_quality": 0.97}, "quality 0.9500 is 0.0200 below the least allowed 0.9700"),
        (
            {"max_latency_p50_ms": 0.1},
            {"max_latency_p50_ms": 0.05},
            "p50 latency 0.1 ms is 0.05 ms over the most allowed 0.05 ms",
        ),
        (
            {"max_latency_p95_ms": 20, "batch_size": 32},
            {"max_latency_p95_ms": 2, "batch_size": 32},
            "p95 latency 20 ms is 18 ms over the most allowed 2 ms",
        ),
        (
            {"max_latency_p99_ms": 3, "batch_size": 8},
            {"max_latency_p99_ms": 2, "batch_size": 8},
            "p99 latency 3 ms is 1 ms over the most allowed 2 ms",
        ),
        ({"max_memory": "80MB"}, {"max_memory": "50MB"}, "memory 80.0 MB is 30.0 MB over the most allowed 50.0 MB"),
        (
            {"min_throughput": 9000},
            {"min_throughput": 9500},
            "throughput 9,000 rows/s is 500 rows/s below the least allowed 9,500 rows/s",
        ),
        (
            {"max_energy": 2},
            {"max_energy": 1.5},
            "energy for 1,000 rows 2 J is 0.5 J over the most allowed 1.5 J",
        ),
        (
            {"metrics": {"f1_macro": {"min": 0.9}}},
            {"metrics": {"f1_macro": {"min": 0.95}}},
            "f1_macro 0.9000 is 0.0500 below the least allowed 0.9500",
        ),
        (
            {"metrics": {"log_loss": {"max": 0.3}}},
            {"metrics": {"log_loss": {"max": 0.2}}},
            "log_loss 0.3000 is 0.1000 over the most allowed 0.2000",
        ),
        (
            {"min_quality": 0.93, "confidence": 0.95},
            {"min_quality": 0.95, "confidence": 0.95},
            "quality 0.9300 is 0.0200 below the least allowed 0.9500",
        ),
        (
            {"metrics": {"log_loss": {"max": 0.32}}, "confidence": 0.95},
            {"metrics": {"log_loss": {"max": 0.3}}, "confidence": 0.95},
            "log_loss 0.3200 is 0.0200 over the most allowed 0.3000",
        ),
    ],
)
def test_each_limit_lets_in_what_just_keeps_it_and_tells_the_others_by_how_much(
    inside: dict[str, Any], outside: dict[str, Any], told: str
) -> None:
    assert select_candidate(evaluation(), BudgetConfig(**inside), task=TASK).winner == "fp32"
    verdict = select_candidate(evaluation(), BudgetConfig(**outside), task=TASK)
    assert verdict.candidates[0].reason == f"fp32 is outside the budget: {told}."
    (miss,) = verdict.candidates[0].misses
    assert miss.limit.split(".")[0] in outside


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        ({"max_quality_drop": 0.02}, {"max_quality_drop": 0.019}),
        ({"max_quality_drop": "2.2%"}, {"max_quality_drop": "2.1%"}),  # of 0.95: 0.0209 and 0.01995
        ({"max_quality_drop": 0.03, "confidence": 0.95}, {"max_quality_drop": 0.029, "confidence": 0.95}),
    ],
)
def test_drop_is_bounded_absolutely_or_relatively_at_its_point_or_at_the_end_of_its_interval(
    inside: dict[str, Any], outside: dict[str, Any]
) -> None:
    """The drop is 0.02, from 0.01 to 0.03 with a confidence of 0.95."""
    found = evaluation(measurement("int8", size_bytes=50_000), drop=0.02)
    assert select_candidate(found, BudgetConfig(**inside), task=TASK).winner == "int8"
    assert select_candidate(found, BudgetConfig(**outside), task=TASK).winner == "fp32"


def test_a_limit_on_a_metric_without_a_value_is_an_error_that_names_it() -> None:
    with pytest.raises(UndefinedMetricError, match="roc_auc is not defined on the 200 rows"):
        select_candidate(evaluation(), BudgetConfig(metrics={"roc_auc": {"min": 0.5}}), task=TASK)


@pytest.mark.parametrize(
    ("objective", "better", "sentence", "reason"),
    [
        (
            "latency",
            {
                "size_bytes": 900_000,
                "latency": tuple(
                    Latency(batch_size=size, p50_ms=0.05, p95_ms=9, p99_ms=9, runs=9, rows_per_s=9.0)
                    for size in BATCH_SIZES
                ),
            },
            "int8 was chosen: with 0.05 ms it is the fastest of the 2 candidates inside the budget.",
            "fp32 fits, but is 0.05 ms slower than int8, 2.0 times its latency.",
        ),
        (
            "memory",
            {
                "size_bytes": 900_000,
                "memory": Memory(total_bytes=9, peak_bytes=40_000_000, interpreter_bytes=9, method="pss"),
            },
            "int8 was chosen: with 40.0 MB it is the leanest of the 2 candidates inside the budget.",
            "fp32 fits, but takes 40.0 MB more memory than int8, 2.0 times as much.",
        ),
        (
            "energy",
            {"size_bytes": 900_000, "joules": 0.5},
            "int8 was chosen: with 0.5 J it is the thriftiest of the 2 candidates inside the budget.",
            "fp32 fits, but takes 1.5 J more for 1,000 rows than int8, 4.0 times as much.",
        ),
    ],
)
def test_objective_is_what_the_winner_has_least_of(
    objective: Any, better: dict[str, Any], sentence: str, reason: str
) -> None:
    found = evaluation(measurement("int8", **better))
    assert select_candidate(found, BudgetConfig(), task=TASK).winner == "fp32"
    verdict = select_candidate(found, BudgetConfig(objective=objective), task=TASK)
    assert (verdict.winner, verdict.sentence, verdict.candidates[0].reason) == ("int8", sentence, reason)


def test_drop_over_the_limit_leaves_the_uncompressed_model_as_winner() -> None:
    verdict = select_candidate(
        evaluation(measurement("int8", size_bytes=50_000), drop=0.02), BudgetConfig(max_quality_drop=0.01), task=TASK
    )
    assert verdict.winner == "fp32"
    assert "drop 0.0200 is 0.0100 over the most allowed 0.0100" in verdict.candidates[1].reason


def test_nobody_inside_the_budget_ends_with_3_the_nearest_and_the_cheapest_single_change() -> None:
    """pruned misses two limits by little, int8 one by 2 % and fp32 one by far."""
    budget = BudgetConfig(max_size=60_000, max_quality_drop=0.01, max_latency_p50_ms=0.1)
    small = Comparison(candidate="int8", drop=around(0.0), agreement=0.99)
    worse = Comparison(candidate="pruned", drop=around(0.0101), agreement=0.99)
    found = evaluation(measurement("pruned", size_bytes=60_100), measurement("int8", size_bytes=61_234))
    found = found.model_copy(update={"comparisons": (worse, small)})
    verdict = select_candidate(found, budget, task=TASK)
    assert (verdict.exit_code, verdict.winner, verdict.test) == (3, None, ())
    assert verdict.sentence == (
        "No candidate is inside the budget, nothing was registered. "
        "The smallest change that lets one in: budget.max_size=62KB, then int8 fits."
    )
    assert verdict.nearest == ("int8", "fp32", "pruned")
    assert verdict.change == BudgetChange(candidate="int8", settings={"budget.max_size": "62KB"})


@pytest.mark.parametrize(
    "budget",
    [
        {"max_size": 60_000, "max_quality_drop": 0.0, "max_latency_p95_ms": 0.1, "min_quality": 0.99},
        {"max_size": 61_234, "max_quality_drop": "1%"},
        {"max_size": 61_234, "max_quality_drop": "1.5%", "confidence": 0.95},
        {"max_latency_p99_ms": 0.0123, "max_latency_p50_ms": 0.0123},
        {"min_throughput": 12_345},
        {"max_energy": 1.23},
        {"max_memory": "1MB"},
        {"metrics": {"f1_macro": {"min": 0.91}, "log_loss": {"max": 0.29}}},
        {"metrics": {"f1_macro": {"max": 0.5}}},
    ],
)
def test_change_that_is_proposed_lets_that_candidate_in(budget: dict[str, Any], tmp_path: Path) -> None:
    """The whole way: as overrides of a recipe."""
    recipe = {"name": "r", "task": TASK, "data": {"source": "x.csv"}, "budget": budget}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    found = evaluation(measurement("int8", size_bytes=61_234), drop=0.0123)
    found = found.model_copy(update={"measurements": found.measurements[1:], "uncompressed": "int8"})
    verdict = select_candidate(found, load_recipe(tmp_path / "r.yaml").budget, task=TASK)
    assert verdict.exit_code == 3
    assert verdict.change is not None
    overrides = [f"{key}={value}" for key, value in verdict.change.settings.items()]
    assert " and ".join(overrides) in verdict.sentence
    loosened = load_recipe(tmp_path / "r.yaml", overrides).budget
    assert select_candidate(found, loosened, task=TASK).winner == verdict.change.candidate


def test_choosing_among_a_hundred_candidates_takes_a_fraction_of_a_second() -> None:
    found = evaluation(*(measurement(f"c{number}", size_bytes=1000 + number) for number in range(100)))
    budget = BudgetConfig(max_quality_drop="2%", min_quality=0.9, metrics={"f1_macro": {"min": 0.5}}, confidence=0.95)
    start_s = time.process_time()
    assert select_candidate(found, budget, task=TASK).winner == "c0"
    assert time.process_time() - start_s < 0.5


def baseline(margin: Interval) -> Baseline:
    return Baseline(name="linear", quality={"accuracy": around(0.95 - margin.point)}, train_rows=9, margin=margin)


@pytest.mark.parametrize(
    ("margin", "told"),
    [
        (around(-0.1), "fp32 is worse than a trivial model (linear): accuracy 0.9500 against 1.0500"),
        (around(0.01), "fp32 is not surely better than a trivial model (linear): accuracy 0.9500 against 0.9400"),
    ],
)
def test_a_model_that_does_not_beat_a_trivial_one_is_said_to_be_so(margin: Interval, told: str) -> None:
    found = evaluation(baselines=(baseline(around(0.5)), baseline(margin)), beats_baselines=False)
    (note,) = select_candidate(found, BudgetConfig(), task=TASK).notes
    assert note.startswith(told)
    (note,) = select_candidate(found, BudgetConfig(max_size=1), task=TASK).notes
    assert note.startswith(told)


def test_of_a_model_that_beats_them_nothing_is_said() -> None:
    found = evaluation(baselines=(baseline(around(0.5)),), beats_baselines=True)
    assert select_candidate(found, BudgetConfig(), task=TASK).notes == ()


def test_noise_of_the_winners_measurement_is_said() -> None:
    verdict = select_candidate(
        evaluation(measurement("int8", size_bytes=9, noise="Too noisy.")), BudgetConfig(), task=TASK
    )
    assert verdict.notes == ("int8: Too noisy.",)


def timed(p99_ms: float, p99_spread: float) -> tuple[Latency, ...]:
    figures = {"p50_ms": 0.1, "p95_ms": 0.2, "runs": 600, "rows_per_s": 9000.0}
    return (Latency(batch_size=1, p99_ms=p99_ms, p99_spread=p99_spread, **figures),)


@pytest.mark.parametrize(
    ("limit", "spread", "winner", "told"),
    [
        (0.33, 0.15, "int8", "p99 latency 0.3 ms is known to 15% to either side, and the limit of 0.33 ms lies within"),
        (0.27, 0.15, "fp32", "p99 latency 0.3 ms is known to 15% to either side, and the limit of 0.27 ms lies within"),
        (0.36, 0.15, "int8", None),
        (0.2, 0.15, "fp32", None),
        (0.3, 0.0, "int8", None),
    ],
    ids=["kept by chance", "missed by chance", "kept", "missed", "known exactly"],
)
def test_a_limit_that_lies_within_what_a_measurement_leaves_open_is_said(
    limit: float, spread: float, winner: str, told: str | None
) -> None:
    small = measurement("int8", size_bytes=9, latency=timed(0.3, spread))
    found = Evaluation(
        uncompressed="fp32",
        measurements=(measurement("fp32", latency=timed(0.1, spread)), small),
        comparisons=(Comparison(candidate="int8", drop=around(0.0), agreement=1.0),),
    )
    verdict = select_candidate(found, BudgetConfig(max_latency_p99_ms=limit), task=TASK)
    assert verdict.winner == winner
    assert verdict.notes == ((f"int8: {told}.",) if told else ())


def test_where_nobody_fits_it_is_said_who_may_miss_by_chance_alone() -> None:
    found = Evaluation(
        uncompressed="fp32", measurements=(measurement("fp32", latency=timed(0.3, 0.2)),), comparisons=()
    )
    verdict = select_candidate(found, BudgetConfig(max_latency_p99_ms=0.25), task=TASK)
    assert verdict.exit_code == 3
    assert any("fp32: p99 latency 0.3 ms is known to 20%" in note for note in verdict.notes)
    of_two = select_candidate(found, BudgetConfig(max_latency_p99_ms=0.25, max_size=1), task=TASK)
    assert not any("is known to" in note for note in of_two.notes)


def test_figures_of_a_gpu_are_said_to_leave_out_its_memory_and_energy() -> None:
    found = Evaluation(uncompressed="fp32", measurements=(measurement("fp32", device="cuda"),), comparisons=())
    (note,) = select_candidate(found, BudgetConfig(), task=TASK).notes
    assert note.startswith("Measured on a GPU: memory is that of the processes on the host alone")


Tested = Callable[..., list[Path]]


@pytest.fixture
def tested(tmp_path: Path) -> Tested:
    """Measurements on test of fp32, right in 95 % of 400 rows, and of int8, wrong in a given further share."""

    def make(lost: float, resamples: int = 1000) -> list[Path]:
        rng = np.random.default_rng(0)
        targets = rng.integers(0, 2, 400)
        directories = []
        for name, wrong in (("fp32", 0.05), ("int8", 0.05 + lost)):
            answers = np.where(np.arange(400) < round(400 * wrong), 1 - targets, targets)
            predictions = np.eye(2, dtype=np.float32)[answers]
            directory = tmp_path / name
            directory.mkdir()
            accuracy = Interval(point=1 - wrong, low=1 - wrong - 0.02, high=1 - wrong + 0.02)
            np.savez(directory / PREDICTIONS_NAME, predictions=predictions, targets=targets)
            bootstrap = Bootstrap(400, EvaluateConfig(bootstrap=resamples))
            scored = Scored.of(get_task(TASK), predictions, targets, bootstrap)
            write_resamples(directory, scored.samples)
            quality = {**scored.quality(), "accuracy": accuracy}
            measurement(name, rows=400, quality=quality).write(directory / MEASUREMENT_NAME)
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


def test_quality_on_test_that_is_too_low_by_its_point_alone_is_noted(tested: Tested) -> None:
    budget, config = BudgetConfig(min_quality=0.86), EvaluateConfig(bootstrap=300)
    chosen = select_candidate(evaluation(measurement("int8", size_bytes=50_000)), budget, task=TASK)
    verdict = judge_test(chosen, tested(0.1), budget, task=TASK, config=config, reads=1)
    assert verdict.exit_code == 0
    assert verdict.notes[-1] == (
        "On test int8 may be outside the budget: its quality is 0.8500 (0.8300 to 0.8700), below the limit of 0.86, "
        "though not surely."
    )


def test_any_metric_on_test_that_is_surely_beyond_its_limit_ends_with_4(tested: Tested) -> None:
    budget, config = BudgetConfig(metrics={"accuracy": {"max": 0.8, "min": 0.1}}), EvaluateConfig(bootstrap=300)
    chosen = select_candidate(evaluation(), BudgetConfig(), task=TASK)
    verdict = judge_test(chosen, tested(0.1)[:1], budget, task=TASK, config=config, reads=1)
    assert verdict.exit_code == 4
    assert "its accuracy is 0.9500 (0.9300 to 0.9700), wholly above the limit of 0.8" in verdict.sentence


def test_relative_drop_on_test_is_a_share_of_the_uncompressed_models_quality_there(tested: Tested) -> None:
    chosen = select_candidate(evaluation(measurement("int8", size_bytes=50_000)), BudgetConfig(), task=TASK)
    directories, config = tested(0.1), EvaluateConfig(bootstrap=300)
    for allowed, exit_code in (("5%", 4), ("11%", 0)):
        budget = BudgetConfig(max_quality_drop=allowed)
        assert judge_test(chosen, directories, budget, task=TASK, config=config, reads=1).exit_code == exit_code


def test_uncompressed_winner_has_no_drop_on_test(tested: Tested) -> None:
    budget, config = BudgetConfig(max_quality_drop=0.0), EvaluateConfig(bootstrap=100)
    chosen = select_candidate(evaluation(), budget, task=TASK)
    verdict = judge_test(chosen, tested(0.1)[:1], budget, task=TASK, config=config, reads=1)
    assert verdict.exit_code == 0
    assert verdict.test_drop == Interval(point=0, low=0, high=0)


def test_a_budget_of_another_confidence_judges_by_the_same_resamples_as_an_evaluation_of_that_confidence(
    tested: Tested, tmp_path: Path
) -> None:
    directories, by_confidence = tested(0.0125, resamples=500), {}
    for confidence in (0.95, 0.5):
        output = tmp_path / str(confidence)
        output.mkdir()
        config = EvaluateConfig(bootstrap=500, confidence=confidence)
        by_confidence[confidence] = compare(directories, output, uncompressed="fp32", config=config, task=TASK)
    wide, narrow = by_confidence[0.95], by_confidence[0.5]
    judged = at_confidence(wide, tmp_path / "0.95", 0.5, get_task(TASK))
    (drop,), (wanted,), (wider,) = ([each.drop for each in found.comparisons] for found in (judged, narrow, wide))
    assert drop == wanted
    assert wider.low < wanted.low < wanted.high < wider.high
    assert judged.confidence == 0.5
    quality = {m.candidate: m.quality["accuracy"] for m in judged.measurements}
    bootstrap = Bootstrap(400, EvaluateConfig(bootstrap=500, confidence=0.5))
    for directory in directories:
        scored = Scored.of(get_task(TASK), *read_predictions(directory), bootstrap)
        found = scored.quality()["accuracy"]
        assert (quality[directory.name].low, quality[directory.name].high) == (found.low, found.high)
    between = BudgetConfig(max_quality_drop=(wanted.high + wider.high) / 2, max_size=100_000, confidence=0.5)
    assert at_confidence(wide, tmp_path / "0.95", None, get_task(TASK)) is wide
    fits = {each.candidate: each.misses for each in select_candidate(judged, between, task=TASK).candidates}
    assert {miss.limit for miss in fits["int8"]} == {"max_size"}
    fits = {
        each.candidate: each.misses
        for each in select_candidate(wide, between.model_copy(update={"confidence": 0.95}), task=TASK).candidates
    }
    assert {miss.limit for miss in fits["int8"]} == {"max_size", "max_quality_drop"}


def test_comparison_is_paired_by_row(tested: Tested, tmp_path: Path) -> None:
    found = compare(tested(0.1), tmp_path, uncompressed="fp32", config=EvaluateConfig(bootstrap=1000), task=TASK)
    (comparison,) = found.comparisons
    assert comparison.agreement == pytest.approx(0.9)
    spread = np.sqrt(0.1 * 0.9 / 400)
    assert comparison.drop.low == pytest.approx(0.1 - 1.96 * spread, abs=0.006)
    assert comparison.drop.high == pytest.approx(0.1 + 1.96 * spread, abs=0.006)
    assert comparison.differences["accuracy"].low == -comparison.drop.high
    assert comparison.differences["log_loss"].point > 0
    assert sum(flip.rows for flip in comparison.flips) == 400
    assert sum(flip.flipped for flip in comparison.flips) == sum(flip.right_to_wrong for flip in comparison.flips) == 40


def test_uncompressed_model_is_compared_with_trivial_ones_on_the_same_rows(tested: Tested, tmp_path: Path) -> None:
    """One that always answers the first class is beaten; one that is always right is not."""
    directories, config = tested(0.1), EvaluateConfig(bootstrap=1000)
    _, targets = read_predictions(directories[0])
    for name, answers, beaten in (("poor", np.zeros(400, int), True), ("perfect", targets, False)):
        folder = tmp_path / name
        folder.mkdir()
        np.savez(folder / "baselines.npz", linear=np.eye(2, dtype=np.float32)[answers])
        (folder / "baselines.json").write_text('{"format_version": 1, "train_rows": {"linear": 70}}')
        found = compare(directories, folder, uncompressed="fp32", config=config, task=TASK, baselines=folder)
        (trivial,) = found.baselines
        assert (trivial.name, trivial.train_rows) == ("linear", 70)
        right = float((answers == targets).mean())
        assert trivial.quality["accuracy"].point == pytest.approx(right)
        assert trivial.margin.point == pytest.approx(0.95 - right)
        assert found.beats_baselines is beaten


def test_measurements_are_priced_when_they_are_compared(tested: Tested, tmp_path: Path) -> None:
    config = EvaluateConfig(bootstrap=1000, price_per_hour=3.6, watts_per_core=20)
    found = compare(tested(0.1), tmp_path, uncompressed="fp32", config=config, task=TASK)
    for measured in found.measurements:
        assert [spent.price for spent in measured.cost.per_1000_rows] == pytest.approx([1 / 9000, 1 / 900, 1 / 90])


def test_nobody_loses_by_the_rounding_of_binary_fractions() -> None:
    found = evaluation(measurement("int8", size_bytes=50_000), drop=0.99 - 0.98)
    assert select_candidate(found, BudgetConfig(max_quality_drop=0.01), task=TASK).winner == "int8"
