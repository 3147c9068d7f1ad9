"""Forecasts against simulated jobs whose end is known, and how steadily they are told."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from orchestrator.money.pace import Pace
from orchestrator.scheduling import forecast
from orchestrator.scheduling.forecast import Ended, Left, Rest, Running

QUOTED = Pace(step_ms=500.0, finish_ms=300.0)
STEPS = 20
MICRO_BATCHES = 3
"""Of each unit."""
BEAT_MS = 2_000


@dataclass(frozen=True)
class Span:
    """A unit as a device did it: when, and when each of its steps had ended."""

    begin: float
    steps: tuple[float, ...]
    end: float

    def running(self, now: float) -> Running:
        """Return it as its worker told of it with its last heartbeat."""
        beats = int((now - self.begin) // BEAT_MS)
        heard = self.begin + beats * BEAT_MS
        done = [at for at in self.steps if at <= heard]
        finishes = max(0, len(done) - 1) // STEPS
        return Running(
            from_ms=round(self.begin),
            heard_at_ms=round(heard),
            steps=len(done),
            finishes=finishes,
            steps_left=STEPS * MICRO_BATCHES - len(done),
            finishes_left=MICRO_BATCHES - finishes,
            worked_ms=round(done[-1] - self.begin) if done else 0,
        )

    def ended(self) -> Ended:
        """Return it as its receipt tells of it."""
        return Ended(
            from_ms=round(self.begin),
            to_ms=round(self.end),
            steps=STEPS * MICRO_BATCHES,
            finishes=MICRO_BATCHES,
        )


@dataclass(frozen=True)
class Life:
    """A job from its beginning to its end."""

    spans: tuple[Span, ...]
    encode_from: float
    end: float
    quoted_encode_ms: int

    def rest(self, now: float) -> Rest:
        """Return what the farm knows of it at a moment."""
        done = [span for span in self.spans if span.end <= now]
        at_work = [span for span in self.spans if span.begin <= now < span.end]
        ready = len(self.spans) - len(done) - len(at_work)
        return Rest(
            now_ms=round(now),
            pace=QUOTED,
            quoted_spread=1.6,
            ended=tuple(span.ended() for span in reversed(done)),
            running=tuple(span.running(now) for span in at_work),
            ready=((STEPS * MICRO_BATCHES, MICRO_BATCHES),) * ready,
            encode_ms=self.quoted_encode_ms,
            encode_from_ms=round(self.encode_from) if now >= self.encode_from else None,
        )

    def looks(self, every_ms: float = 1_000) -> Iterator[tuple[float, Rest]]:
        """Yield it every second, or oftener where it is short, with the true time left."""
        now, every = 0.0, min(every_ms, self.end / 200)
        while now < self.end:
            yield self.end - now, self.rest(now)
            now += every


def life(seed: int, workers: int) -> Life:
    """Make a job on devices 0.2 to 20 times as slow as quoted; units and steps are not alike."""
    chance = random.Random(seed)
    times = 0.2 * 100 ** chance.random()
    units, around = chance.randint(2 * workers, 8 * workers), chance.uniform(1, 1.3)
    free = [0.0] * workers
    spans = []
    for _ in range(units):
        device = min(range(workers), key=lambda n: free[n])
        begin = free[device] + 50
        pace, now = times * around * chance.lognormvariate(0, 0.06), begin
        steps = []
        for number in range(STEPS * MICRO_BATCHES):
            now += QUOTED.step_ms * pace * chance.lognormvariate(0, 0.15)
            steps.append(now)
            if number % STEPS == STEPS - 1:
                now += QUOTED.finish_ms * pace
        free[device] = now + 400  # its files are sent
        spans.append(Span(begin=begin, steps=tuple(steps), end=free[device]))
    last = max(span.end for span in spans) + 50
    encode = 1_500 * times * chance.lognormvariate(0, 0.2)
    return Life(tuple(spans), encode_from=last, end=last + encode, quoted_encode_ms=1_500)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_after_the_first_tenth_the_time_left_is_known(workers: int) -> None:
    """Within 25 % of the truth in nine of ten looks, rising in fewer than one in twenty."""
    near = looks = rises = late = 0
    for seed in range(40):
        told: Left | None = None
        whole = life(seed, workers)
        for true_ms, rest in whole.looks():
            before = told
            told = forecast.steadied(told, forecast.left(rest))
            if true_ms > 0.9 * whole.end:
                continue
            looks += 1
            near += abs(told.p50_ms - true_ms) <= 0.25 * true_ms
            late += told.p90_ms < true_ms
            rises += bool(before and told.p50_ms > before.p50_ms)
    assert near >= 0.9 * looks
    assert rises < 0.05 * looks
    assert late <= 0.12 * looks


def test_nothing_is_promised_of_a_unit_that_is_overdue() -> None:
    """A device that tells of no step is not `about 1 s` from its end."""
    silent = Running(from_ms=0, heard_at_ms=0, steps=0, finishes=0, steps_left=60, finishes_left=3)
    rest = Rest(now_ms=900_000, pace=QUOTED, quoted_spread=1.6, running=(silent,))
    assert forecast.left(rest).p50_ms >= 30_000


def test_who_shares_a_worker_waits_for_the_others_too() -> None:
    """Of ten equal sessions on one device each has it for a tenth of the time."""
    ended = tuple(
        Ended(from_ms=t, to_ms=t + 30_000, steps=60, finishes=3) for t in (600_000, 300_000, 0)
    )
    rest = Rest(now_ms=900_000, pace=QUOTED, quoted_spread=1.6, ended=ended, ready=((60, 3),))
    assert forecast.left(rest).p50_ms == pytest.approx(300_000, rel=0.15)


def test_a_told_time_rises_only_where_much_more_is_left() -> None:
    """A little more is waited out; the rest of the truth is told at once."""
    told = Left(10_000, 12_000)
    assert forecast.steadied(told, Left(12_000, 15_000)) == told
    assert forecast.steadied(told, Left(13_000, 15_000)) == Left(13_000, 15_000)
    assert forecast.steadied(told, Left(8_000, 9_000)) == Left(8_000, 9_000)
    assert forecast.steadied(None, told) == told
