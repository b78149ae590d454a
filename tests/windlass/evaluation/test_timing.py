"""The rounds of timing on a clock that only the timed calls move: each test says how long they take."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from windlass.evaluation import timing
from windlass.evaluation.documents import Latency
from windlass.evaluation.energy import EnergyCounter
from windlass.evaluation.measure import describe_noise
from windlass.evaluation.timing import BatchTimer, spread, time_batches, warm_up


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def perf_counter(self) -> float:
        return self.now_s

    process_time = perf_counter

    def call(self, seconds: Callable[[int], float]) -> Callable[[int], None]:
        """A call of which the n-th takes so long."""
        numbers = count()

        def run(_: int) -> None:
            self.now_s += seconds(next(numbers))

        return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


@pytest.fixture
def no_counter(tmp_path: Path) -> EnergyCounter:
    return EnergyCounter(tmp_path)


def test_warm_up_lasts_until_calls_stay_as_they_are(clock: Clock) -> None:
    getting_faster = clock.call(lambda number: 0.001 + 0.01 / (1 + number))
    call_s, settled = warm_up(getting_faster, limit_s=60)
    assert settled
    assert call_s == pytest.approx(0.001, rel=0.3)
    assert clock.now_s > 100.05


def test_warm_up_of_steady_calls_is_short(clock: Clock) -> None:
    assert warm_up(clock.call(lambda _: 0.001), limit_s=60) == (pytest.approx(0.001), True)
    assert clock.now_s == pytest.approx(100.03)


def test_warm_up_that_never_ends_is_cut_off_and_says_so(clock: Clock) -> None:
    _, settled = warm_up(clock.call(lambda number: 0.001 * 1.1 ** (number / 10)), limit_s=1.0)
    assert not settled
    assert clock.now_s < 101.2


def timed(clock: Clock, counter: EnergyCounter, seconds: Callable[[int], float], limit_s: float = 9.0) -> BatchTimer:
    (timer,) = time_batches({8: clock.call(seconds)}, counter, limit_s)
    return timer


def test_steady_calls_take_six_rounds_and_are_known_exactly(clock: Clock, no_counter: EnergyCounter) -> None:
    result = timed(clock, no_counter, lambda _: 0.001).result()
    latency = Latency(**result["latency"])
    assert latency.rounds == 6
    assert (latency.spread, latency.p95_spread, latency.p99_spread) == (pytest.approx(0),) * 3
    assert (latency.p50_ms, latency.p95_ms, latency.p99_ms) == (pytest.approx(1),) * 3
    assert latency.runs >= 600
    assert latency.rows_per_s == pytest.approx(8000)
    assert result["cpu_s"] == pytest.approx(1 / 8)
    assert result["joules"] is None
    assert result["settled"]


def test_energy_is_that_of_the_timed_calls_for_1000_rows(clock: Clock, tmp_path: Path) -> None:
    """Each call of 8 rows makes the processor's counter grow by a millijoule."""
    domain = tmp_path / "intel-rapl:0"
    domain.mkdir()
    for name, text in (("name", "package-0"), ("energy_uj", "0"), ("max_energy_range_uj", "999999999")):
        (domain / name).write_text(text)
    energy_uj = domain / "energy_uj"
    answer = clock.call(lambda _: 0.001)

    def call(number: int) -> None:
        answer(number)
        energy_uj.write_text(str(int(energy_uj.read_text()) + 1000))

    (timer,) = time_batches({8: call}, EnergyCounter(tmp_path), 9.0)
    assert timer.result()["joules"] == pytest.approx(0.125)


def test_noisy_calls_go_on_until_the_median_is_known(clock: Clock, no_counter: EnergyCounter) -> None:
    """Every second or so the machine is slower for a while."""
    rng = np.random.default_rng(0)
    pace = [rng.uniform(0.95, 1.15) for _ in range(10_000)]
    latency = Latency(**timed(clock, no_counter, lambda number: 0.001 * pace[number // 100]).result()["latency"])
    assert latency.rounds > 6
    assert latency.spread <= 0.03


def test_a_time_limit_ends_the_rounds_and_the_spread_tells_of_it(clock: Clock, no_counter: EnergyCounter) -> None:
    rng = np.random.default_rng(0)
    latency = Latency(**timed(clock, no_counter, lambda _: rng.uniform(0.01, 0.09), limit_s=5).result()["latency"])
    assert clock.now_s < 105.5
    assert latency.spread > 0.03


def test_rare_slow_calls_leave_p99_less_known_than_p50(clock: Clock, no_counter: EnergyCounter) -> None:
    rng = np.random.default_rng(0)
    slow = rng.exponential(size=10_000) * (rng.random(10_000) < 0.02)
    latency = Latency(**timed(clock, no_counter, lambda number: 0.001 * (1 + slow[number])).result()["latency"])
    assert latency.spread < 0.01
    assert latency.p99_spread > 0.05


def test_batch_sizes_take_turns(clock: Clock, no_counter: EnergyCounter) -> None:
    order: list[int] = []

    def note(size: int) -> Callable[[int], None]:
        call = clock.call(lambda _: 0.001)
        return lambda number: (order.append(size), call(number))[1]

    time_batches({1: note(1), 8: note(8)}, no_counter, 9.0)
    turns = [size for size, before in zip(order, [0, *order], strict=False) if size != before]
    assert turns == [1, 8] * (len(turns) // 2)
    assert len(turns) == 2 + 2 * 6


def test_calls_of_a_minute_are_timed_at_least_once(clock: Clock, no_counter: EnergyCounter) -> None:
    latency = Latency(**timed(clock, no_counter, lambda _: 60.0, limit_s=5).result()["latency"])
    assert (latency.p50_ms, latency.runs) == (60_000, 1)


@pytest.mark.parametrize("rounds", [6, 9, 20, 45])
def test_spread_holds_the_median_in_at_least_95_of_100_cases(rounds: int) -> None:
    rng = np.random.default_rng(rounds)
    samples = rng.exponential(size=(2000, rounds)) + 1  # skewed, as latencies are
    truth = 1 + np.log(2)
    held = 0
    for sample in samples:
        ordered = np.sort(sample)
        width = spread(sample.tolist()) * 2 * np.median(sample)
        inside = next(k for k in range(rounds) if np.isclose(ordered[-1 - k] - ordered[k], width))
        held += bool(ordered[inside] <= truth <= ordered[-1 - inside])
    assert 0.945 < held / 2000 < 0.99


def latency(spread: float = 0.01, p95_spread: float = 0.01, rounds: int = 12) -> Latency:
    figures = {"p50_ms": 1.0, "p95_ms": 1.0, "p99_ms": 1.0, "runs": 9, "rows_per_s": 9.0}
    return Latency(batch_size=8, spread=spread, p95_spread=p95_spread, rounds=rounds, **figures)


@pytest.mark.parametrize(
    ("measured", "others_cores", "settled", "told"),
    [
        (latency(spread=0.08), 0.0, True, "after 12 rounds p50 at batch 8 is known to 8% to either side"),
        (latency(p95_spread=0.2), 0.0, True, "after 12 rounds p95 at batch 8 is known to 20% to either side"),
        (latency(), 0.5, True, "other processes kept 0.5 of 4 cores busy"),
        (latency(rounds=2), 0.0, True, "only 2 rounds fitted into evaluate.latency_seconds, six are needed"),
        (latency(), 0.0, False, "calls were still changing when the time for warm-up was over"),
    ],
)
def test_noise_is_told_in_a_sentence(measured: Latency, others_cores: float, settled: bool, told: str) -> None:
    noise = describe_noise((latency(), measured), others_cores, 4, settled=settled)
    assert noise == f"The machine was too noisy for its latencies to be trusted within 10 %: {told}."


def test_of_a_quiet_machine_nothing_is_told() -> None:
    assert describe_noise((latency(0.04, 0.05),), 0.3, 4, settled=True) is None
