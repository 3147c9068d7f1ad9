"""A farm in memory and in simulated time, with the scheduler's own rules: for `fairness`."""

import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from orchestrator.model import Session
from orchestrator.scheduling import scheduler
from orchestrator.states import Lane

VISIT_UNITS = 3
AWAY_MS = 300_000
NOISE = 0.2
"""A unit takes so much more or less than its session's others."""

Entry = tuple[int, int]
"""A virtual time or a moment, and the number of the session that had it when this was noted."""


@dataclass(slots=True, eq=False)
class Guest:
    """One session, what it wants, and what it got."""

    plan: str
    weight: int
    unit_ms: int
    """A unit really takes, give or take the noise."""
    quoted_ms: int
    session: Session
    visits: bool
    is_late: bool = False
    """It came with a virtual time far ahead of all others."""
    left: int = 0
    """Units of a visit that were not granted yet."""
    running: int = 0
    used_ms: int = 0
    longest_wait_ms: int = 0

    @property
    def longest_ms(self) -> float:
        """The most that a unit takes, or is expected to take."""
        return max(self.unit_ms * (1 + NOISE), self.quoted_ms)

    @property
    def waits(self) -> bool:
        """It has a unit that nobody was granted yet."""
        return not self.visits or self.left > 0

    def indebted(self, virtual_us: int) -> None:
        """Begin with this virtual time."""
        self.session, self.is_late = replace(self.session, virtual_us=virtual_us), True


@dataclass(slots=True)
class Device:
    """A device, what it owes, and what it does until when."""

    owed: dict[str, int] = field(default_factory=dict)
    guest: int = -1
    lane: Lane = Lane.WEIGHT
    since_ms: int = 0
    took_ms: int = 0


def guest(
    plan: str, weight: int, unit_ms: int, *, factor: float = 1.0, visits: bool = False
) -> Guest:
    """Return a session whose quotes are its units times a factor."""
    session = Session(
        id="ses", account_id="acc", name="n", limit_gpu_ms=0, created_at_ms=0, plan=plan
    )
    quoted = max(1, round(unit_ms * factor))
    return Guest(plan, weight, unit_ms, quoted_ms=quoted, session=session, visits=visits)


class Sim:
    """Devices that serve guests by the farm's rules."""

    def __init__(
        self,
        guests: list[Guest],
        devices: int,
        shares: dict[str, float],
        age_ms: int,
        chance: random.Random,
        *,
        corrects: bool = True,
    ) -> None:
        self.guests, self.shares, self.age_ms, self.chance = guests, shares, age_ms, chance
        self.devices, self.corrects = devices, corrects
        self.grants: Counter[Lane] = Counter()
        self._virtual_us = 0
        self._by_pass: list[Entry] = []
        self._by_wait: list[Entry] = []
        self._of_plan: dict[str, list[Entry]] = {each.plan: [] for each in guests}
        self._clock: list[tuple[int, int, int]] = []  # (when, device or -1, visitor)
        self._all = [Device() for _ in range(devices)]

    def run(self, until_ms: int) -> None:
        """Let so much time pass; units that run at its end count as far as they are."""
        for n, one in enumerate(self.guests):
            if one.visits:
                heapq.heappush(self._clock, (self.chance.randrange(AWAY_MS), -1, n))
            else:
                self._note(n)
        for n in range(self.devices):
            heapq.heappush(self._clock, (0, n, -1))
        while self._clock and self._clock[0][0] < until_ms:
            now, device, visitor = heapq.heappop(self._clock)
            if device < 0:
                self._arrive(visitor, now)
            else:
                self._end(self._all[device], now)
                self._grant(device, now)
        for each in self._all:
            if each.guest >= 0:
                self.guests[each.guest].used_ms += until_ms - each.since_ms
        for one in self.guests:
            if one.waits:
                self._waited(one, until_ms)

    # --- one event ---------------------------------------------------------------------------

    def _arrive(self, n: int, now_ms: int) -> None:
        one = self.guests[n]
        joined = scheduler.join_at(one.session, self._virtual_us)
        one.session = replace(one.session, virtual_us=joined, waits_from_ms=now_ms)
        one.left = VISIT_UNITS
        self._note(n)

    def _grant(self, device: int, now_ms: int) -> None:
        own = self._all[device]
        n, own.lane = self._next(own, now_ms)
        one = self.guests[n]
        if own.lane is Lane.WEIGHT:
            self._virtual_us = one.session.virtual_us
        self.grants[own.lane] += 1
        self._waited(one, now_ms)
        moved = scheduler.advance(one.session.virtual_us, one.quoted_ms, weight=one.weight)
        one.session = replace(one.session, virtual_us=moved, waits_from_ms=now_ms)
        one.left -= one.visits
        one.running += 1
        self._note(n)
        own.guest, own.since_ms = n, now_ms
        own.took_ms = max(1, round(one.unit_ms * self.chance.uniform(1 - NOISE, 1 + NOISE)))
        heapq.heappush(self._clock, (now_ms + own.took_ms, device, -1))

    def _end(self, own: Device, now_ms: int) -> None:
        n, own.guest = own.guest, -1
        if n < 0:
            return
        one, took = self.guests[n], own.took_ms
        own.owed = scheduler.owed_after(own.owed, self.shares, took, plan=one.plan, lane=own.lane)
        one.used_ms += took
        one.running -= 1
        moved = one.session.virtual_us
        if self.corrects:
            moved = scheduler.corrected(moved, one.quoted_ms, took, weight=one.weight)
        one.session = replace(one.session, virtual_us=moved, waits_from_ms=now_ms)
        self._note(n)
        if one.visits and not one.left and not one.running:
            back = now_ms + self.chance.randrange(2 * AWAY_MS)
            heapq.heappush(self._clock, (back, -1, n))

    def _waited(self, one: Guest, until_ms: int) -> None:
        one.longest_wait_ms = max(one.longest_wait_ms, until_ms - one.session.waits_from_ms)

    # --- the database's part: who is first in which order --------------------------------------

    def _next(self, own: Device, now_ms: int) -> tuple[int, Lane]:
        for name in scheduler.due(own.owed):
            if name == scheduler.AGE:
                found = self._first(self._by_wait, _wait_of)
                before = now_ms - self.age_ms
                if found is not None and self.guests[found].session.waits_from_ms < before:
                    return found, Lane.AGE
            elif (found := self._first(self._of_plan.get(name, []), _pass_of)) is not None:
                return found, Lane.FLOOR
        found = self._first(self._by_pass, _pass_of)
        assert found is not None, "somebody always waits here"
        return found, Lane.WEIGHT

    def _note(self, n: int) -> None:
        one = self.guests[n]
        if one.waits:
            heapq.heappush(self._by_pass, (one.session.virtual_us, n))
            heapq.heappush(self._of_plan[one.plan], (one.session.virtual_us, n))
            heapq.heappush(self._by_wait, (one.session.waits_from_ms, n))

    def _first(self, heap: list[Entry], key: Callable[[Session], int]) -> int | None:
        """Return the first of an order; what was noted before it changed is dropped."""
        while heap:
            noted, n = heap[0]
            if self.guests[n].waits and key(self.guests[n].session) == noted:
                return n
            heapq.heappop(heap)
        return None


def _pass_of(session: Session) -> int:
    return session.virtual_us


def _wait_of(session: Session) -> int:
    return session.waits_from_ms
