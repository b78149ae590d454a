"""How long calls take: after a warm-up that is detected, in rounds that go on until their median is known.

Part of the measuring process: NumPy and the standard library only.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import numpy as np

from windlass.evaluation.energy import EnergyCounter

WANTED_SPREAD, WANTED_P95_SPREAD = 0.03, 0.05
"""Half the width of the interval of the median, relative to it, at which measuring ends: of p50 and of p95."""
MIN_ROUNDS = 6
"""The fewest of which the smallest and the largest hold the median with 95 % confidence: 1 - 2/2^6 is 0.97."""
_ROUND_CALLS = 100
_ROUND_S = 0.03
_DISCARDED_CALLS = 2
"""At the start of each round: the caches still hold the other batch sizes."""
_WINDOW_CALLS, _WINDOW_S = 10, 0.01
_WINDOWS_THAT_AGREE = 3
_AGREEMENT = 1.05

Call = Callable[[int], None]
"""Answers one batch, the one of this number."""


def warm_up(call: Call, limit_s: float) -> tuple[float, bool]:
    """Call until three windows in a row have medians within 5 % of each other, or the limit is over.

    Returns:
        The last median in seconds, and whether they agreed.
    """
    end_s = time.perf_counter() + limit_s
    medians: list[float] = []
    numbers = count()
    while True:
        medians.append(float(np.median(_window(call, numbers, _WINDOW_CALLS, _WINDOW_S, end_s))))
        last = medians[-_WINDOWS_THAT_AGREE:]
        if len(last) == _WINDOWS_THAT_AGREE and max(last) <= _AGREEMENT * min(last):
            return medians[-1], True
        if time.perf_counter() >= end_s:
            return medians[-1], False


def _window(call: Call, numbers: count[int], calls: int, seconds: float, end_s: float) -> list[float]:
    """Seconds of each of so many calls and for so long, at least one; none begins after `end_s`."""
    taken: list[float] = []
    start_s = now_s = time.perf_counter()
    while not taken or (now_s < end_s and (len(taken) < calls or now_s < start_s + seconds)):
        number = next(numbers)
        before_s = time.perf_counter()
        call(number)
        now_s = time.perf_counter()
        taken.append(now_s - before_s)
    return taken


class BatchTimer:
    """The rounds of one batch size."""

    def __init__(
        self, batch_size: int, call: Call, counter: EnergyCounter, *, warm_up_s: float, round_s: float
    ) -> None:
        """Warm up; then each round has a hundred calls, if `round_s` suffices."""
        call_s, self.settled = warm_up(call, warm_up_s)
        self.batch_size = batch_size
        self._call, self._counter = call, counter
        self._round_s = min(max(_ROUND_S, _ROUND_CALLS * call_s), round_s)
        self._numbers = count()
        self._quantiles_s: list[list[float]] = []
        self._rows_per_s: list[float] = []
        self._calls, self._cpu_s, self._joules = 0, 0.0, 0.0

    def run_round(self, end_s: float) -> None:
        """Time calls; after `end_s` on the clock of `time.perf_counter` none begins but the first."""
        for _ in range(_DISCARDED_CALLS):
            if time.perf_counter() < end_s:
                self._call(next(self._numbers))
        energy, cpu_s, start_s = self._counter.read(), time.process_time(), time.perf_counter()
        taken = _window(self._call, self._numbers, 1, self._round_s, end_s)
        wall_s = time.perf_counter() - start_s
        self._cpu_s += time.process_time() - cpu_s
        self._joules += self._counter.joules_since(energy)
        self._calls += len(taken)
        self._quantiles_s.append(np.quantile(taken, [0.5, 0.95, 0.99]).tolist())
        self._rows_per_s.append(len(taken) * self.batch_size / wall_s)

    @property
    def known(self) -> bool:
        p50_spread, p95_spread, _ = self._spreads()
        return p50_spread <= WANTED_SPREAD and p95_spread <= WANTED_P95_SPREAD

    def _spreads(self) -> list[float]:
        """Of p50, p95 and p99."""
        return [spread(taken_s) for taken_s in zip(*self._quantiles_s, strict=True)]

    def result(self) -> dict[str, Any]:
        """The medians over rounds, and what 1,000 rows took; `joules` is None where nothing counts them."""
        p50_s, p95_s, p99_s = np.median(self._quantiles_s, axis=0).tolist()
        p50_spread, p95_spread, p99_spread = self._spreads()
        thousands = self._calls * self.batch_size / 1000
        return {
            "latency": {
                "batch_size": self.batch_size,
                "p50_ms": p50_s * 1000,
                "p95_ms": p95_s * 1000,
                "p99_ms": p99_s * 1000,
                "runs": self._calls,
                "rows_per_s": float(np.median(self._rows_per_s)),
                "rounds": len(self._rows_per_s),
                "spread": p50_spread,
                "p95_spread": p95_spread,
                "p99_spread": p99_spread,
            },
            "settled": self.settled,
            "cpu_s": self._cpu_s / thousands,
            "joules": self._joules / thousands if self._counter.available else None,
        }


def time_batches(calls: dict[int, Call], counter: EnergyCounter, limit_s: float) -> list[BatchTimer]:
    """Time each batch size in turn, round after round, until every median is known or the limit is over.

    In turn, so that what disturbs the machine for a second disturbs one round of each and not all of one.

    Args:
        calls: by batch size.
        limit_s: for all together, the warm-up included: it may take a third.
    """
    end_s = time.perf_counter() + limit_s
    share_s = limit_s / 3 / len(calls)
    timers = [
        BatchTimer(size, call, counter, warm_up_s=share_s, round_s=2 * share_s / MIN_ROUNDS)
        for size, call in calls.items()
    ]
    for rounds in count(1):
        for timer in timers:
            timer.run_round(end_s)
        known = rounds >= MIN_ROUNDS and all(timer.known for timer in timers)
        if known or time.perf_counter() >= end_s:
            break
    return timers


def spread(values: Sequence[float]) -> float:
    """Half the width of the median's 95 % interval, relative to the median.

    The interval lies between order statistics, whatever the distribution (Conover, Practical Nonparametric
    Statistics, 3.2). Fewer than six values do not give 95 %; their smallest and largest are taken.
    """
    ordered = sorted(values)
    size = len(ordered)
    outside, ways = 0, 1 + size
    while 40 * ways <= 2**size:  # the chance that the median lies beyond the next one is at most 1/40
        outside += 1
        ways += math.comb(size, outside + 1)
    return (ordered[size - 1 - outside] - ordered[outside]) / 2 / float(np.median(ordered))
