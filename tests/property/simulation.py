"""A farm under a virtual clock, with a network and workers that go wrong in every way.

The farm's code and its SQLite are the real ones; only time, messages and workers are
simulated. One seed is one history; the same seed is the same history.
"""

import contextlib
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Final

from orchestrator.errors import BudgetExceeded, Conflict, PlanLimit, Unavailable
from orchestrator.farm import Farm, Idempotency, check, jobs
from orchestrator.farm.accounts import accounts, allowances, keys, sessions
from orchestrator.farm.accounts.keys import Bounds
from orchestrator.farm.kernel.where import JobsWanted
from orchestrator.farm.leases import fleet, reconcile
from orchestrator.model import Alert, Brief, Job, Key
from orchestrator.money.plans import Plans, shipped
from orchestrator.states import AlertAction, JobState, KeyKind, OnExhausted, Pricing
from tests.factories import Clock, Hand, account_id, brief, make_farm
from tests.property import tally
from tests.property.memory import Memory
from tests.property.network import Network
from tests.property.owners import Owners
from tests.property.volatile import volatile
from tests.property.workforce import Rogue, Workforce

FREEZES: Final = 0.02
"""Chance, per event, that more time passes than any lease lasts."""
MONTHS: Final = 0.005
"""Chance, per event, that most of a month passes."""
FAILS: Final = 0.02
"""Chance, per event, that the next transaction cannot be committed."""
BOUND: Final = 0.5
"""Part of the submissions of its account that come with the key that has an allowance."""
USUAL: Final[Mapping[str, int]] = {}
"""Weights of acts by name that are other than usual, to see more of something rare."""


@dataclass
class Tally:
    """The outcome of a history."""

    overspent_gpu_ms: int = 0
    charged_twice_gpu_ms: int = 0
    happened: Counter[str] = field(default_factory=Counter)


def some_plans(chance: random.Random) -> Plans:
    """Return the shipped plans and a tight one, whose alerts may stop things.

    In half of all histories a plan's quotes hold, in half it is metered.
    """
    tight = replace(
        shipped().named("studio"),
        name="tight",
        month_gpu_ms=chance.randrange(2_000, 40_000),
        alerts=(Alert(50), Alert(100, chance.choice(list(AlertAction)))),
    )
    every = {**shipped().plans, "tight": tight}
    prices = {name: chance.choice(list(Pricing)) for name in every}
    return Plans({name: replace(each, price=prices[name]) for name, each in every.items()})


class Simulation(Workforce, Owners):
    """One seeded history, on a migrated database file that it copies into memory."""

    def __init__(
        self, seed: int, template: Path, *, workers: int = 3, often: Mapping[str, int] = USUAL
    ) -> None:
        self.random = random.Random(seed)
        self.often = often
        self.clock = Clock()
        self.store = volatile(template)
        self.store.renew()
        numbers = count(1)
        farm = make_farm(
            self.store,
            self.clock,
            make_id=lambda kind, _now: f"{kind}_{next(numbers):021d}",
            runaway=self.random.choice([1.0, 4.0]),
        )
        self.farm: Farm = replace(farm, plans=some_plans(self.random))
        self.rogues = [
            Rogue(Hand(self.farm, self.clock, f"w{n}", fingerprint="ffg"[n % 3]), silent=n == 1)
            for n in range(workers)
        ]
        self.tally = Tally()
        self.happened = self.tally.happened
        self.memory = Memory(happened=self.happened)
        self.network = Network(self.random, self.happened)
        home = account_id(self.farm)
        other = accounts.create(self.farm, name="other", plan="creator").account.id
        self.owners = {"a": home, "b": home, "c": other}
        for name, most in (("a", 40_000), ("b", 12_000), ("c", 20_000)):
            sessions.create(
                self.farm,
                account_id=self.owners[name],
                name=name,
                budget_gpu_ms=self.random.randrange(2_000, most),
            )
        self.key, _ = keys.create(
            self.farm,
            account_id=home,
            kind=KeyKind.SUBMIT,
            name="bound",
            bounds=Bounds(gpu_ms=self.random.randrange(2_000, 30_000)),
        )
        self.asked: list[tuple[str, str, Brief, Key | None]] = []
        self.frozen = False
        self.checked = -1

    def run(self, events: int) -> Tally:
        """Let `events` things happen, then stop all faults and let the farm finish."""
        for _ in range(events):
            self.pass_time()
            if self.random.random() < FAILS:
                self.store.fails = True
            acts = self.acts()
            act = self.random.choices(list(acts), list(acts.values()))[0]
            self.happened[f"event {act.__name__}"] += 1
            try:
                act()
            except (BudgetExceeded, Conflict, PlanLimit, Unavailable) as refused:
                # A refusal is fine: nothing may have changed then, which the invariants show.
                self.happened[f"refused: {refused.code}"] += 1
            self.look()
        settle_down(self)
        self.happened.update(tally.happened(self.store.raw))
        return self.tally

    def look(self) -> None:
        """Hold every invariant and the entries' own sums against the store, if it changed."""
        if self.checked == self.store.changes:
            return
        broken = check.violations(self.farm)
        assert not broken, broken
        raw = self.store.raw
        self.happened.update(tally.worker_states(raw))
        told = self.tally
        told.overspent_gpu_ms = tally.overspent_gpu_ms(raw)
        told.charged_twice_gpu_ms = (
            tally.charged_twice_gpu_ms(raw) + self.memory.charged_twice_gpu_ms
        )
        assert told.overspent_gpu_ms == 0, f"{told.overspent_gpu_ms} GPU-ms overspent"
        assert told.charged_twice_gpu_ms == 0, f"{told.charged_twice_gpu_ms} GPU-ms charged twice"
        assert (unseen := tally.unseen_gpu_ms(raw)) == 0, f"{unseen} GPU-ms that nobody saw"
        self.checked = self.store.changes

    def pass_time(self) -> None:
        """Let a moment pass, or more than anybody expects; who is frozen comes nearer its end."""
        self.clock.advance(self.random.choice([0.01, 0.05, 0.1, 0.3, 0.5, 1, 2, 4]))
        if self.random.random() < MONTHS:
            self.clock.advance(20 * 86_400)
        if self.random.random() < FREEZES:  # everybody is late at once
            self.clock.advance(45)
        for rogue in self.rogues:
            rogue.asleep = max(0, rogue.asleep - 1)

    def acts(self) -> dict[Callable[[], None], int]:
        """Return what could happen now, each act with its weight."""
        acts: dict[Callable[[], None], int] = {
            self.submit: 3,
            self.intent: 1,
            self.top_up: 2,
            self.warn: 1,
            self.lower: 1,
            self.close_or_reopen: 1,
            self.change_allowance: 1,
            self.change_plan: 1,
            self.brake: 8 if self.frozen else 1,
            self.operate: 1,
            self.reconcile: 4,
        }
        if self.asked:
            acts[self.ask_again] = 1
        if self.network.on_its_way:
            acts[self.deliver] = 4
        acts |= self.worker_acts()
        return {act: self.often.get(act.__name__, weight) for act, weight in acts.items()}

    def submit(self) -> None:
        """Somebody submits a job."""
        asked = brief(
            seconds=self.random.choice([0.5, 2.0, 8.0]),
            on_exhausted=self.random.choice([*OnExhausted, OnExhausted.FINISH]),
            max_gpu_ms=self.random.choice([None, None, self.random.randrange(1_000, 15_000)]),
        )
        session, bound = self.random.choice("abc"), self.random.random() < BOUND
        key = self.key if bound and self.owners[session] == self.key.account_id else None
        self.asked.append((f"key-{len(self.asked)}", session, asked, key))
        self.ask(*self.asked[-1])

    def ask_again(self) -> None:
        """A client that heard nothing, or forgot, sends an earlier request again."""
        self.ask(*self.random.choice(self.asked))

    def ask(self, name: str, session: str, asked: Brief, key: Key | None) -> None:
        """Send a submission."""

        def message() -> None:
            made = jobs.submit(
                self.farm,
                account_id=self.owners[session],
                session_id=session,
                brief=asked,
                idempotency=Idempotency(key=name, body_sha256=name),
                key=key,
            )
            self.memory.submitted(name, made.job.id)

        self.network.send(message)

    def deliver(self) -> None:
        """A late message arrives."""
        self.network.deliver()

    def intent(self) -> None:
        """An owner pauses, resumes, finishes early or cancels something."""
        page = jobs.listing(self.farm, None)
        if page.items:
            verb = self.random.choice([*[jobs.pause, jobs.resume, jobs.finish] * 2, jobs.cancel])
            begun = [j for j in page.items if j.state is JobState.PAUSED and j.frames_done]
            some = begun if begun and verb is jobs.finish else page.items
            verb(self.farm, None, self.random.choice(some).id)
            self.happened[f"intent {verb.__name__}"] += 1

    def brake(self) -> None:
        """An operator freezes all spending, or lets it go on."""
        frozen = self.random.random() < 0.15
        fleet.freeze(self.farm, frozen=frozen)
        self.frozen = frozen

    def operate(self) -> None:
        """An operator admits a worker again, or takes it out of service for a while."""
        verb = self.random.choice([fleet.admit] * 4 + [fleet.drain])
        verb(self.farm, self.random.choice(self.rogues).hand.id)

    def reconcile(self) -> None:
        """The dispatcher looks around."""
        reconcile.turn_month(self.farm)
        reconcile.reconcile(self.farm)
        reconcile.to_ring(self.farm)


def settle_down(history: Simulation) -> None:
    """No more faults: every job must come to an end, or wait for budget or its owner."""
    history.store.fails = False
    history.network.deliver_all()
    history.look()
    fleet.freeze(history.farm, frozen=False)
    for owner in set(history.owners.values()):
        accounts.set_plan(history.farm, owner, "unlimited")
    history.clock.advance(1000)
    reconcile.reconcile(history.farm)
    for rogue in history.rogues:
        history.hello(rogue)
        fleet.admit(history.farm, rogue.hand.id)
    allowances.change(history.farm, None, history.key.id, 10**9)
    for session in sessions.listing(history.farm, None).items:
        sessions.reopen(history.farm, None, session.id)
        sessions.top_up(history.farm, None, session.id, 10**8)
    for job in all_jobs(history.farm, JobState.PAUSED):
        with contextlib.suppress(BudgetExceeded):  # of its own cap
            jobs.resume(history.farm, None, job.id)
    for rogue in history.rogues * 2:
        rogue.hand.work_off(gpu_ms=20)
    for job in all_jobs(history.farm, JobState.PAUSED):
        assert job.cap_gpu_ms, f"{job.id} waits, although there is budget"
        history.happened["its own cap was too low"] += 1
        jobs.cancel(history.farm, None, job.id)
    history.look()
    left = [job.id for job in all_jobs(history.farm) if not job.state.is_terminal]
    assert not left, f"never ended: {left}"


def all_jobs(farm: Farm, state: JobState | None = None) -> list[Job]:
    """Return all jobs, or those in one state."""
    found: list[Job] = []
    after = None
    while True:
        page = jobs.listing(farm, None, limit=200, after=after, wanted=JobsWanted(state=state))
        found += page.items
        after = page.next_cursor
        if after is None:
            return found
