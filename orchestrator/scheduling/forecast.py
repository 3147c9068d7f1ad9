"""When a job is likely to have ended: from what is left of it and the paces seen on it.

What is left is counted in denoising steps and ends of micro-batches, which `money.pace` weighs as
device time. How much longer by the clock that takes is seen too: of the job's ended leases, the
newest first, and of what its running ones have told of since (a busy host, files fetched and sent).
docs/scheduling.md says it in words. Pure: one moment in, one forecast out.
"""

import heapq
from dataclasses import dataclass
from math import sqrt
from typing import Final

from orchestrator.money.pace import FADES, NEWEST, Pace

LEAST_SPREAD: Final = 1.1
"""p90 over p50 of the time left, however much was seen."""
SURER: Final = 20.0
"""Rate at which that spread falls with the part of the work that was seen."""
LEAST_SERVED: Final = 0.05
"""Part of the time in which a job is taken to have a worker at least."""
RISES: Final = 1.25
"""A time left that was told rises only where it is so many times as long by now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A lease that has done a part of the work."""

    from_ms: int
    to_ms: int
    steps: int
    finishes: int
    load_ms: int = 0
    """Of its time, what loading the model took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A lease that is at work, as far as it last told."""

    from_ms: int
    heard_at_ms: int
    steps: int
    finishes: int
    steps_left: int
    finishes_left: int
    worked_ms: int = 0
    """Time by its host's clock that what is done took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """All that is left of a job, and what was seen of it, at one moment."""

    now_ms: int
    pace: Pace
    quoted_spread: float
    ended: tuple[Ended, ...] = ()
    """The newest first."""
    running: tuple[Running, ...] = ()
    ready: tuple[tuple[int, int], ...] = ()
    """Units that nobody has: steps and ends of micro-batches."""
    since_ms: int = 0
    """Since when it has not been paused."""
    wait_ms: int = 0
    """In line, before anybody has begun it."""
    startup_ms: int = 0
    """Loading the model, where none of its workers has told of a step yet."""
    plan_ms: int = 0
    encode_ms: int = 0
    encode_from_ms: int | None = None
    """When its encoding began, of which nothing is told before its end."""
    encode_is_known: bool = False
    """By encodes that this farm has measured."""


@dataclass(frozen=True, slots=True)
class Left:
    """The time that a job likely has left, and the one in which nine of ten have ended."""

    p50_ms: int
    p90_ms: int


def left(rest: Rest) -> Left:
    """Return the time that a job likely has left."""
    ratio, seen_ms = _ratio(rest)
    frames_ms, todo_ms = _frames(rest, ratio)
    encode_ms = rest.encode_ms * (1.0 if rest.encode_is_known else ratio)
    if rest.encode_from_ms is not None:
        # Nothing is heard of it: one that takes longer than expected has half of that to go.
        gone = rest.now_ms - rest.encode_from_ms
        encode_ms = max(encode_ms - gone, gone / 2)
    p50 = rest.wait_ms + rest.plan_ms + frames_ms + encode_ms
    part = seen_ms / (seen_ms + todo_ms) if seen_ms else 0.0
    spread = 1 + (rest.quoted_spread - 1) / sqrt(1 + SURER * part)
    return Left(p50_ms=round(p50), p90_ms=round(p50 * max(LEAST_SPREAD, spread)))


def steadied(told: Left | None, now: Left) -> Left:
    """Return what to tell of a forecast after another: never more, unless much more is left."""
    if told is None or now.p50_ms > RISES * told.p50_ms:
        return now
    p50 = min(told.p50_ms, now.p50_ms)
    return Left(p50_ms=p50, p90_ms=max(p50, min(told.p90_ms, now.p90_ms)))


# --- inside -------------------------------------------------------------------------------


def _ratio(rest: Rest) -> tuple[float, float]:
    """Return the time by the clock over device time, and the device time that it was seen in."""
    took = worth = seen = 0.0
    for number, lease in enumerate(rest.ended[:NEWEST]):
        work = rest.pace.work_ms(lease.steps, lease.finishes)
        weight = FADES**number
        took += weight * max(1, lease.to_ms - lease.from_ms - lease.load_ms)
        worth += weight * work
    seen += sum(rest.pace.work_ms(lease.steps, lease.finishes) for lease in rest.ended)
    for told in rest.running:
        if told.steps and told.worked_ms:
            work = rest.pace.work_ms(told.steps, told.finishes)
            took += told.worked_ms
            worth += work
            seen += work
    return (took / worth if worth else 1.0), seen


def _frames(rest: Rest, ratio: float) -> tuple[float, float]:
    """Return the time until the last frame, and the device time that is left of them."""
    loads: list[float] = []
    todo = 0.0
    for lease in rest.running:
        work = rest.pace.work_ms(lease.steps_left, lease.finishes_left)
        if lease.steps:
            work -= rest.pace.begin_ms
            loads.append(max(0.0, lease.heard_at_ms + work * ratio - rest.now_ms))
        else:
            gone = rest.now_ms - lease.from_ms
            loads.append(max(work * ratio, rest.startup_ms + work * ratio - gone))
        todo += work
    served = _served(rest)
    workers = max(1, round(served))
    stretch = max(1.0, workers / served)
    begins = float(rest.startup_ms) if rest.ready and not (rest.running or rest.ended) else 0.0
    loads += [begins] * (workers - len(loads))
    heapq.heapify(loads)
    for steps, finishes in rest.ready:
        work = rest.pace.work_ms(steps, finishes)
        todo += work
        heapq.heappush(loads, heapq.heappop(loads) + work * ratio * stretch)
    return max(loads), todo


def _served(rest: Rest) -> float:
    """Return how many workers the job has had lately, on average: under 1 where it shares one."""
    spans = [(lease.from_ms, rest.now_ms) for lease in rest.running]
    spans += [(lease.from_ms, lease.to_ms) for lease in rest.ended if lease.to_ms > rest.since_ms]
    spans = spans[: max(3, 2 * len(rest.running))]
    if not spans:
        return 1.0
    begin = max(rest.since_ms, min(start for start, _ in spans))
    busy = sum(end - max(start, begin) for start, end in spans)
    window = rest.now_ms - begin
    return max(LEAST_SERVED, busy / window) if window > 0 and busy > 0 else 1.0
