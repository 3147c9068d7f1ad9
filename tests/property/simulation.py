"""A farm under a virtual clock, with a network and workers that go wrong in every way.

The farm's code and its SQLite are the real ones; only time, messages and workers are
simulated. One seed is one history; the same seed is the same history.
"""

import contextlib
import random
from dataclasses import replace
from pathlib import Path

from orchestrator.errors import BadRequest, BudgetExceeded, Conflict, PlanLimit
from orchestrator.farm import Farm, accounts, check, fleet, jobs, reconcile, sessions
from orchestrator.model import Job
from orchestrator.states import JobState, OnExhausted
from orchestrator.store import open_store
from orchestrator.tiers import Tiers, shipped
from tests.factories import Clock, Hand, account_id, brief, make_farm, submit
from tests.property.memory import Memory
from tests.property.workforce import Rogue, Workforce

FREEZES = 0.02
"""Chance, per event, that more time passes than any lease lasts."""
MONTHS = 0.005
"""Chance, per event, that most of a month passes."""


class Simulation(Workforce):
    """One seeded history."""

    def __init__(self, seed: int, database: Path, *, workers: int = 3) -> None:
        self.random = random.Random(seed)
        self.clock = Clock()
        farm = make_farm(open_store(f"sqlite:///{database}"), self.clock)
        self.farm: Farm = replace(farm, tiers=self.tiers())
        self.rogues = [
            Rogue(Hand(self.farm, self.clock, f"w{n}", fingerprint="ffg"[n % 3]))
            for n in range(workers)
        ]
        self.memory = Memory()
        for name in ("a", "b"):
            sessions.create(
                self.farm,
                account_id=account_id(self.farm),
                name=name,
                budget_gpu_ms=self.random.randrange(2_000, 60_000 if name == "a" else 20_000),
            )
        self.faults = True

    def tiers(self) -> Tiers:
        """Return the shipped plans and a tight one, whose alerts may stop things."""
        tight = replace(
            shipped().named("studio"),
            name="tight",
            month_gpu_ms=self.random.randrange(2_000, 40_000),
            alerts=(50, 100),
            on_alert=self.random.choice(["notify", "pause_new", "pause_all"]),
        )
        return Tiers({**shipped().tiers, "tight": tight})

    def run(self, events: int) -> None:
        """Let `events` things happen, then stop all faults and let the farm finish."""
        acts = (
            [self.submit] * 3
            + [self.claim] * 12
            + [self.beat] * 9
            + [self.finish] * 12
            + [self.stop] * 3
            + [self.stumble] * 2
            + [self.zombie] * 2
            + [self.crash, self.wish, self.top_up, self.brake, self.lower, self.change_plan]
            + [self.reconcile] * 4
        )
        for _ in range(events):
            self.clock.advance(self.random.choice([0.01, 0.05, 0.1, 0.3, 0.3, 0.5, 1, 2]))
            if self.random.random() < MONTHS:
                self.clock.advance(20 * 86_400)
            if self.random.random() < FREEZES:  # everybody is late at once
                self.clock.advance(45)
            # A refusal is fine: nothing may have changed then, which the invariants show.
            with contextlib.suppress(BudgetExceeded, Conflict, PlanLimit):
                self.random.choice(acts)()
            broken = check.violations(self.farm)
            assert not broken, broken
        self.settle_down()

    def submit(self) -> None:
        """Somebody submits a job."""
        asked = brief(
            seconds=self.random.choice([0.5, 2.0, 8.0]),
            on_exhausted=self.random.choice([*OnExhausted, OnExhausted.FINISH]),
        )
        submit(self.farm, asked, session=self.random.choice("ab"))

    def wish(self) -> None:
        """An owner pauses, resumes or cancels something."""
        page = jobs.listing(self.farm, None)
        if page.items:
            verb = self.random.choice([jobs.pause, jobs.resume, jobs.resume, jobs.cancel])
            verb(self.farm, None, self.random.choice(page.items).id)

    def top_up(self) -> None:
        """An owner adds budget."""
        session = sessions.find(self.farm, account_id(self.farm), self.random.choice("ab"))
        sessions.top_up(self.farm, None, session.id, self.random.randrange(1, 5_000))

    def lower(self) -> None:
        """An owner lowers a session's limit."""
        session = sessions.find(self.farm, account_id(self.farm), self.random.choice("ab"))
        with contextlib.suppress(BadRequest):
            sessions.lower(self.farm, None, session.id, self.random.randrange(60_000))

    def change_plan(self) -> None:
        """An operator gives the account another plan, or takes it away for a while."""
        plan = self.random.choice(["studio", "studio", "tight", "tight", accounts.NO_PLAN])
        accounts.set_plan(self.farm, account_id(self.farm), plan)

    def brake(self) -> None:
        """An operator freezes all spending, or lets it go on."""
        fleet.freeze(self.farm, frozen=self.random.random() < 0.15)

    def reconcile(self) -> None:
        """The dispatcher looks around."""
        reconcile.turn_month(self.farm)
        reconcile.reconcile(self.farm)
        reconcile.to_ring(self.farm)

    def settle_down(self) -> None:
        """No more faults: every job must come to an end, or wait for budget or its owner."""
        fleet.freeze(self.farm, frozen=False)
        accounts.set_plan(self.farm, account_id(self.farm), "unlimited")
        self.clock.advance(1000)
        reconcile.reconcile(self.farm)
        for rogue in self.rogues:
            self.hello(rogue)
            fleet.admit(self.farm, rogue.hand.id)
        for session in sessions.listing(self.farm, None).items:
            sessions.top_up(self.farm, None, session.id, 10**8)
        for job in all_jobs(self.farm, JobState.PAUSED):
            jobs.resume(self.farm, None, job.id)
        for rogue in self.rogues * 2:
            rogue.hand.work_off(gpu_ms=20)
        broken = check.violations(self.farm)
        assert not broken, broken
        left = [job.id for job in all_jobs(self.farm) if not job.state.is_terminal]
        assert not left, f"never ended: {left}"


def all_jobs(farm: Farm, state: JobState | None = None) -> list[Job]:
    """Return all jobs, or those in one state."""
    found: list[Job] = []
    after = None
    while True:
        page = jobs.listing(farm, None, limit=200, after=after, state=state)
        found += page.items
        after = page.next_cursor
        if after is None:
            return found
