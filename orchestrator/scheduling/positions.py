"""A waiting job's place: how many jobs are before it, and when it is likely to go on.

All waiting jobs are told from one look at the line, which `farm.jobs.waiting` takes every few
seconds: no poll of a job reads the queue. docs/scheduling.md says how the time is reckoned.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from orchestrator.wire import render_queue

Turn = tuple[int, str, int]
"""The virtual time at which a job begins; its session and its number there decide among equals."""

_STEPS = ((10, 1), (60, 5), (600, 60), (3_600, 300))
"""Up to so many seconds, a time is told in steps of so many."""


@dataclass(frozen=True, slots=True)
class JobInLine:
    """A job that may run, with what its hold expects it to take yet."""

    job_id: str
    model: str
    work_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInLine:
    """A session in line, its jobs oldest first."""

    session_id: str
    virtual_us: int
    weight: int
    plan: str
    floor: float
    jobs: tuple[JobInLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The number of jobs with their turn before a job, and the time until its own."""

    jobs_ahead: int
    wait_ms: int


@dataclass(frozen=True, kw_only=True)
class Line:
    """All sessions in line and the devices they wait for, at one moment."""

    at_ms: int
    parties: tuple[SessionInLine, ...]
    serving: Mapping[str, frozenset[str]]
    """Queue -> the workers that serve it."""
    free_in_ms: Mapping[str, int]
    """Worker -> when it is likely to be done with its unit."""
    _orders: dict[tuple[str, str | None], "_Order"] = field(default_factory=dict)

    def has(self, job_id: str) -> bool:
        """Tell whether a job was in line at that moment."""
        return any(job.job_id == job_id for party in self.parties for job in party.jobs)

    def place(self, job_id: str, queue: str) -> Position | None:
        """Return a job's place among those that want a device of this queue; None: not in line."""
        pool = self.serving.get(queue)
        everybody = self._order(queue, None)
        if not pool or job_id not in everybody.turns:
            return None
        turn, party = everybody.turns[job_id]
        wait = everybody.work_ms(turn) / len(pool)
        if party.floor:
            own = self._order(queue, party.plan)
            wait = min(wait, own.work_ms(turn) / (party.floor * len(pool)))
        soonest = min(self.free_in_ms.get(worker, 0) for worker in pool)
        return Position(jobs_ahead=everybody.before(turn), wait_ms=soonest + round(wait))

    def _order(self, queue: str, plan: str | None) -> "_Order":
        """Return the order for a queue's devices, of one plan or of all; made once a look."""
        found = self._orders.get((queue, plan))
        if found is None:
            pool, nobody = self.serving.get(queue, frozenset()), frozenset[str]()
            models = {job.model for party in self.parties for job in party.jobs}
            near = {m for m in models if self.serving.get(render_queue(m), nobody) & pool}
            parties = [each for each in self.parties if plan in (None, each.plan)]
            found = self._orders[queue, plan] = _Order(parties, near)
        return found


class _Order:
    """Jobs by their turns: their session's virtual time, and what its older jobs add to it."""

    def __init__(self, parties: Iterable[SessionInLine], models: Container[str]) -> None:
        self.turns: dict[str, tuple[Turn, SessionInLine]] = {}
        begin: list[tuple[int, int]] = []
        end: list[tuple[int, int]] = []
        for party in parties:
            at_us = party.virtual_us
            for n, job in enumerate(party.jobs):
                if job.model in models:
                    self.turns[job.job_id] = ((at_us, party.session_id, n), party)
                    at_us += job.work_ms * 1000 // party.weight
            begin.append((party.virtual_us, party.weight))
            end.append((at_us, party.weight))
        self._sorted = sorted(turn for turn, _ in self.turns.values())
        self._begin, self._end = _Slopes(begin), _Slopes(end)

    def before(self, turn: Turn) -> int:
        """Return how many jobs have their turn before this one."""
        return bisect_left(self._sorted, turn)

    def work_ms(self, turn: Turn) -> int:
        """Return what all sessions are given until then: each its weight, while it has work."""
        return (self._begin.until(turn[0]) - self._end.until(turn[0])) // 1000


class _Slopes:
    """Lines that each begin somewhere and rise by a weight."""

    def __init__(self, starts: list[tuple[int, int]]) -> None:
        starts.sort()
        self._at = [at for at, _ in starts]
        self._weights = [0, *accumulate(weight for _, weight in starts)]
        self._moments = [0, *accumulate(at * weight for at, weight in starts)]

    def until(self, at: int) -> int:
        """Return how high all that began before are, together."""
        n = bisect_right(self._at, at)
        return at * self._weights[n] - self._moments[n]


@dataclass(slots=True)
class PositionCache:
    """The newest look at the line, kept for all who ask until the next."""

    line: Line | None = field(default=None)
    again: int = 0
    """Looks that were taken before their time since, for jobs that had come meanwhile."""


def about(ms: int) -> str:
    """Return a time in coarse words, so that it does not change with every look."""
    seconds = max(1, -(-ms // 1000))
    step = next((step for most, step in _STEPS if seconds <= most), 1_800)
    seconds = -(-seconds // step) * step
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3_600:
        return f"{seconds // 60} min"
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
