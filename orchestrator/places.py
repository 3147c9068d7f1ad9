"""A waiting job's place: how many jobs are before it, and when it is likely to go on.

All waiting jobs are told from one look at the line, which `farm.waiting` takes every few
seconds: no poll of a job reads the queue. docs/scheduling.md says how the time is reckoned.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from orchestrator.wire import render_queue

_STEPS = ((10, 1), (60, 5), (600, 60), (3_600, 300))
"""Up to so many seconds, a time is told in steps of so many."""


@dataclass(frozen=True, slots=True)
class InLine:
    """A job that may run, with what its hold expects it to take yet."""

    job_id: str
    model: str
    work_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """A session in line, its jobs oldest first."""

    session_id: str
    pass_us: int
    weight: int
    tier: str
    floor: float
    jobs: tuple[InLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """How many jobs have their turn before a job, and the time until its own."""

    jobs_ahead: int
    wait_ms: int


@dataclass(frozen=True, kw_only=True)
class Line:
    """All sessions in line and the devices they wait for, at one moment."""

    at_ms: int
    parties: tuple[Party, ...]
    serving: Mapping[str, frozenset[str]]
    """Queue -> the workers that serve it."""
    free_in_ms: Mapping[str, int]
    """Worker -> when it is likely to be done with its unit."""

    @cached_property
    def _by_id(self) -> dict[str, Party]:
        return {each.session_id: each for each in self.parties}

    def place(self, job_id: str, session_id: str, queue: str) -> Place | None:
        """Return a job's place among those that want a device of this queue; None: not in line."""
        party, pool = self._by_id.get(session_id), self.serving.get(queue)
        if party is None or not pool:
            return None
        older, found = 0, False
        before = 0
        for job in self._wanting(party, pool):
            if found := job.job_id == job_id:
                break
            older, before = older + job.work_ms, before + 1
        if not found:
            return None
        start_us = party.pass_us + older * 1000 // party.weight
        ahead_ms, of_tier_ms = older, older
        for other in self.parties:
            if other is party or (other.pass_us, other.session_id) > (start_us, session_id):
                continue
            jobs, work_ms = _until(other, start_us, list(self._wanting(other, pool)))
            before, ahead_ms = before + jobs, ahead_ms + work_ms
            of_tier_ms += work_ms if other.tier == party.tier else 0
        wait = ahead_ms / len(pool)
        if party.floor:
            wait = min(wait, of_tier_ms / (party.floor * len(pool)))
        soonest = min(self.free_in_ms.get(worker, 0) for worker in pool)
        return Place(jobs_ahead=before, wait_ms=soonest + round(wait))

    def _wanting(self, party: Party, pool: frozenset[str]) -> Iterator[InLine]:
        """Yield a session's jobs whose model a device of this pool may be asked for."""
        nobody: frozenset[str] = frozenset()
        for job in party.jobs:
            if self.serving.get(render_queue(job.model), nobody) & pool:
                yield job


@dataclass(slots=True)
class Board:
    """Where the newest look at the line is kept, for all who ask until the next."""

    line: Line | None = field(default=None)


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


def _until(party: Party, pass_us: int, jobs: list[InLine]) -> tuple[int, int]:
    """Return how many of a session's jobs begin before its pass is there, and their time."""
    room_ms = (pass_us - party.pass_us) * party.weight // 1000
    count = done_ms = 0
    for job in jobs:
        if count and done_ms >= room_ms:
            break
        count, done_ms = count + 1, done_ms + job.work_ms
    return count, min(done_ms, room_ms)
