"""A busy neighbour on the CPU: what the default clip is charged alone, and beside busy loops.

    farm bench neighbour
    farm bench neighbour --loops 4 --rounds 5

Each round renders the same frames twice, alone and beside two busy loops for each core, in turn,
through the render path of a worker. Charged is the receipt's device time; lasted is the clock's.
The goal is that the two charges lie within 15 % of each other, in one run.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from orchestrator import catalog
from tools.bench.overhead import clip_frames, clip_work, clip_writer
from workers.devices import cpu_threads
from workers.engines import Engine, engine_for, timer_for
from workers.meter import Meter
from workers.render import render

GOAL: Final = 0.15
LOOP: Final = "while True: pass"


def main() -> int:
    """Print the medians and how far apart they are; 1 where that is beyond the goal."""
    options = _options()
    card = catalog.load(options.models).card("tiny_world")
    engine = engine_for(card)
    threads = cpu_threads(options.threads)
    engine.load("cpu", threads)
    alone: list[tuple[float, float]] = []
    beside: list[tuple[float, float]] = []
    for number in range(options.rounds + 1):
        for times, loops in ((alone, 0), (beside, options.loops)):
            with busy(loops):
                took = _clip(engine, threads, options.seed)
            if number:  # the first round warms up
                times.append(took)
                told = f"{took[0]:7.0f} GPU-ms charged, {took[1]:7.0f} ms lasted"
                print(f"round {number}, {loops} busy loops: {told}", flush=True)
    quiet, loud = (statistics.median(charged for charged, _ in each) for each in (alone, beside))
    slower = statistics.median(b for _, b in beside) / statistics.median(a for _, a in alone)
    apart = loud / quiet - 1
    print(f"medians: alone {quiet:.0f} GPU-ms, beside {options.loops} busy loops {loud:.0f} GPU-ms")
    print(f"charged {apart:+.1%} (goal: within {GOAL:.0%}); it lasted {slower:.2f} times as long")
    return 0 if abs(apart) <= GOAL else 1


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """Keep so many processes computing for nothing meanwhile."""
    neighbours = [subprocess.Popen([sys.executable, "-c", LOOP]) for _ in range(loops)]
    time.sleep(0.2 * bool(loops))
    try:
        yield
    finally:
        for each in neighbours:
            each.kill()
            each.wait()


def _clip(engine: Engine, threads: int, seed: int) -> tuple[float, float]:
    """Render the default clip; return (charged, lasted) in milliseconds."""
    work = clip_work(engine.card, clip_frames(engine.card, seed))
    meter = Meter(
        limit_gpu_ms=10**8,
        step_prior_ms=10,
        decode_prior_ms=10,
        timer=timer_for("cpu", threads, engine.card.engine),
    )
    with tempfile.TemporaryDirectory(prefix="framefarm-bench-") as name:
        writer = clip_writer(Path(name), work)
        began = time.perf_counter()
        result = render(
            work, engine=engine, meter=meter, writer=writer, progress=lambda gpu_ms, frames: None
        )
        lasted = 1000 * (time.perf_counter() - began)
    assert result.receipt.frames_done == len(work.frames), result.message
    return result.receipt.gpu_ms, lasted


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=catalog.bundled_models(), help="folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loops", type=int, default=2 * (os.cpu_count() or 1))
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
