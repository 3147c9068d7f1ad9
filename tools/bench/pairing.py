"""Two ways of doing the same work, timed in pairs: ABBA, medians of ratios, honest intervals.

A machine that changes its speed while it is measured spoils a comparison, so a fixed piece of
work is timed before and after every pair, and a pair around which it moved more than 5 % is
run again. How often that happened is part of the result.
"""

import random
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from tools.bench.progress import step

STEADY = 0.05
"""Amount that the calibration may move around a pair."""
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Cost:
    """Time of one run."""

    wall_seconds: float
    cpu_seconds: float
    """Of this process and the children it has waited for."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A against B over all kept pairs."""

    pairs: int
    run_again: int
    a: Cost
    b: Cost
    """Medians."""
    ratio: float
    """Median of A / B in wall time."""
    low: float
    high: float
    """Bootstrap interval of that median, 95 %."""
    cpu_ratio: float

    def __str__(self) -> str:
        return (
            f"{self.ratio:.3f} [{self.low:.3f}, {self.high:.3f}] wall, {self.cpu_ratio:.3f} cpu, "
            f"A {self.a.wall_seconds:.2f} s, B {self.b.wall_seconds:.2f} s, "
            f"{self.pairs} pairs, {self.run_again} run again"
        )


def paired(a: Callable[[], None], b: Callable[[], None], *, pairs: int = 10) -> Comparison:
    """Time `a` and `b` in `pairs` pairs, AB and BA in turn; an unsteady pair is run again.

    At most twice as many pairs are tried; after that unsteady ones are kept too, and counted.
    """
    kept: list[tuple[Cost, Cost]] = []
    run_again = 0
    before = calibration_seconds()
    while len(kept) < pairs:
        step(f"pair {len(kept) + 1} of {pairs}" + (f", {run_again} run again" * bool(run_again)))
        if len(kept) % 2:
            cost_b, cost_a = cost_of(b), cost_of(a)
        else:
            cost_a, cost_b = cost_of(a), cost_of(b)
        after = calibration_seconds()
        steady = abs(after / before - 1) <= STEADY
        before = after
        if not steady:
            run_again += 1
            if run_again <= pairs:
                continue
        kept.append((cost_a, cost_b))
    ratios = [cost_a.wall_seconds / cost_b.wall_seconds for cost_a, cost_b in kept]
    low, high = interval(ratios)
    return Comparison(
        pairs=len(kept),
        run_again=run_again,
        a=_median_cost([cost_a for cost_a, _ in kept]),
        b=_median_cost([cost_b for _, cost_b in kept]),
        ratio=statistics.median(ratios),
        low=low,
        high=high,
        cpu_ratio=statistics.median(a.cpu_seconds / b.cpu_seconds for a, b in kept),
    )


def cost_of(run: Callable[[], None]) -> Cost:
    """Run it once and return what it took."""
    cpu, wall = _cpu_seconds(), time.perf_counter()
    run()
    return Cost(time.perf_counter() - wall, _cpu_seconds() - cpu)


def calibration_seconds() -> float:
    """Time a fixed piece of work, about a tenth of a second: the best of three."""
    block = bytes(8 * 1024 * 1024)

    def once() -> float:
        start = time.perf_counter()
        for _ in range(4):
            sha256(block).digest()
        return time.perf_counter() - start

    return min(once() for _ in range(3))


def interval(values: list[float]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the median; the resampling is seeded."""
    draw = random.Random(0)
    medians = sorted(
        statistics.median(draw.choices(values, k=len(values))) for _ in range(RESAMPLES)
    )
    return medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES)]


def _median_cost(costs: list[Cost]) -> Cost:
    return Cost(
        statistics.median(cost.wall_seconds for cost in costs),
        statistics.median(cost.cpu_seconds for cost in costs),
    )


def _cpu_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
