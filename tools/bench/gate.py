"""The question before every denoising step: may it run? What asking costs.

    python -m tools.bench.gate

It is asked as a worker's child asks it: of a meter with a limit, whose order to stop is an integer
shared with the parent. The bound is 1 µs a question; the bench fails over it. The whole step of
the meter, with its two marks on the clock, is printed beside it.
"""

import argparse
import ctypes
import time
from collections.abc import Callable
from multiprocessing.sharedctypes import RawValue

from orchestrator.receipt import DENOISE
from tools.bench.progress import step
from workers.child import STOPS
from workers.meter import Meter

BOUND_NS = 1000


def main() -> None:
    """Print what one question costs, and fail where it is over the bound."""
    options = _options()
    stop = RawValue(ctypes.c_int, 0)
    meter = Meter(limit_gpu_ms=10**9, step_prior_ms=1, stop=lambda: STOPS[stop.value])
    asked = cost_ns(meter.refusal, options.times, options.rounds)
    with meter.stage(DENOISE):
        stepped = cost_ns(lambda: (meter.before_step(), meter.step_done()), options.times, 5)
    print(f"the gate of a denoising step: {asked:.0f} ns a question (bound {BOUND_NS} ns)")
    print(f"    question, clock and count of a whole step: {stepped:.0f} ns")
    if asked > BOUND_NS:
        raise SystemExit("the question costs more than its bound")


def cost_ns(ask: Callable[[], object], times: int, rounds: int) -> float:
    """Return one call's nanoseconds in the quietest round: what it costs, not what disturbs it."""
    found = []
    for number in range(rounds):
        step(f"round {number + 1} of {rounds}")
        before = time.perf_counter_ns()
        for _ in range(times):
            ask()
        found.append((time.perf_counter_ns() - before) / times)
    return min(found)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=100_000, help="questions in a round")
    parser.add_argument("--rounds", type=int, default=9)
    return parser.parse_args()


if __name__ == "__main__":
    main()
