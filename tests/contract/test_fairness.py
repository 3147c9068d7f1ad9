"""Fair share between sessions, by the weights of their plans (SQLite and Postgres)."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from orchestrator.farm import Farm, check, jobs
from orchestrator.farm.accounts import accounts, sessions
from orchestrator.farm.leases import reconcile
from orchestrator.model import Job, Session, Unit
from orchestrator.money.plans import Plans, shipped
from orchestrator.states import Cause, JobState, Outcome, UnitKind
from orchestrator.wire import Order, ParseWork, RenderWork
from tests.factories import Clock, Hand, account_id, brief, submit, with_painter

BUDGET_MS = 10**6


def weighted(farm: Farm, **plans: tuple[int, float]) -> tuple[Farm, list[str]]:
    """Return the farm with an account on a plan of each name, weight and floor."""
    studio = shipped().named("studio")
    plans = {
        name: replace(studio, name=name, weight=weight, floor=floor, open_jobs=None)
        for name, (weight, floor) in plans.items()
    }
    farm = replace(farm, plans=Plans({**shipped().plans, **plans}))
    return farm, [accounts.create(farm, name=plan, plan=plan).account.id for plan in plans]


def ask(farm: Farm, account: str, session: str, seconds: float = 2.0) -> Job:
    """Submit a job for a session of an account."""
    asked = brief(seconds=seconds)
    return jobs.submit(farm, account_id=account, session_id=session, brief=asked).job


def serve(farm: Farm, hand: Hand, units: int, **takes_ms: int) -> Counter[str]:
    """Let a worker do so many units; return the GPU-ms that each session was charged, by name.

    A unit takes as long as its session's name says here, whatever was quoted.
    """
    charged: Counter[str] = Counter()
    for _ in range(units):
        order = hand.claim()
        assert order, "there is work for all of them"
        name = session_of(farm, order).name
        took = takes_ms.get(name, 50)
        charged[name] += hand.done(order, gpu_ms=took, seconds=took / 1000).settled_gpu_ms
    return charged


def session_of(farm: Farm, order: Order) -> Session:
    """Return the session that an order works for."""
    with farm.store.read() as tx:
        unit = tx.get(Unit, order.unit_id)
        assert unit
        session = tx.get(Session, unit.session_id)
        assert session
        return session


def pass_of(farm: Farm, session: str) -> int:
    """Return a session's virtual time."""
    return sessions.get(farm, None, session).virtual_us


def crowd(farm: Farm, owners: list[str], jobs_each: int = 6) -> list[Session]:
    """Give every account a session of its own name with long jobs, submitted."""
    opened = [
        sessions.create(
            farm,
            account_id=owner,
            name=accounts.get(farm, owner).name,
            budget_gpu_ms=BUDGET_MS,
        )
        for owner in owners
    ]
    for session in opened:
        for _ in range(jobs_each):
            ask(farm, session.account_id, session.id, seconds=8.0)
    return opened


def test_shares_are_as_the_weights(farm: Farm, clock: Clock) -> None:
    """Three accounts are charged as 1 : 2 : 4 to within a unit each, though no quote is right."""
    farm, owners = weighted(farm, w1=(1, 0), w2=(2, 0), w4=(4, 0))
    crowd(farm, owners)
    takes = {"w1": 300, "w2": 100, "w4": 900}
    charged = serve(farm, Hand(farm, clock), 70, **takes)
    for plan, weight in {"w1": 1, "w2": 2, "w4": 4}.items():
        fair = charged.total() * weight / 7
        assert abs(charged[plan] - fair) <= max(takes.values()) + 2_000 / 7, (plan, charged)
    assert check.violations(farm) == []


@pytest.mark.parametrize(("floor", "least", "most"), [(0.25, 0.22, 0.28), (0.0, 0.0, 0.1)])
def test_a_floor_holds_against_any_weight(
    farm: Farm, clock: Clock, floor: float, least: float, most: float
) -> None:
    """A quarter guaranteed is a quarter had beside a weight of 99; without it next to nothing."""
    farm, owners = weighted(farm, small=(1, floor), large=(99, 0))
    crowd(farm, owners)
    charged = serve(farm, Hand(farm, clock), 40, small=1_000, large=1_000)
    assert least <= charged["small"] / charged.total() <= most, charged


def test_time_that_nobody_wanted_is_no_credit(farm: Farm, clock: Clock) -> None:
    """A plan whose sessions come after others worked alone for long gets its floor, no more."""
    farm, owners = weighted(farm, small=(1, 0.25), large=(99, 0))
    crowd(farm, owners[1:])
    hand = Hand(farm, clock)
    serve(farm, hand, 30, large=1_000)
    crowd(farm, owners[:1])
    charged = serve(farm, hand, 24, small=1_000, large=1_000)
    assert 4_000 <= charged["small"] <= 8_000, charged


@pytest.mark.parametrize("age_seconds", [60.0, 10.0**6])
def test_who_waits_too_long_is_served(farm: Farm, clock: Clock, age_seconds: float) -> None:
    """A session whose pass is hours ahead gets a unit by its age; without ageing it starves."""
    farm, owners = weighted(farm, early=(1, 0), late=(1, 0))
    farm = replace(farm, terms=replace(farm.terms, age_seconds=age_seconds))
    early, _ = crowd(farm, owners)
    with farm.store.write() as tx:
        row = tx.get(Session, early.id)
        assert row
        tx.save(row, replace(row, virtual_us=10**12))
    charged = serve(farm, Hand(farm, clock), 48, early=2_000, late=2_000)
    assert bool(charged["early"]) is (age_seconds == 60.0), charged
    assert charged["early"] <= 0.1 * charged.total()


def test_a_unit_that_failed_moves_no_pass(farm: Farm, clock: Clock) -> None:
    """Time nobody is charged for, a failure or a lost worker, is not held against its session."""
    job = submit(farm)
    hand = Hand(farm, clock)
    before = pass_of(farm, job.session_id)
    order = hand.claim()
    assert order and pass_of(farm, job.session_id) > before
    hand.complete(order, Outcome.FAILED, cause=Cause.WORKER)
    assert pass_of(farm, job.session_id) == before
    order = hand.claim()
    assert order
    clock.advance(100)
    reconcile.reconcile(farm)
    assert pass_of(farm, job.session_id) == before


def test_a_worker_stays_with_its_model_for_a_while(farm: Farm, clock: Clock) -> None:
    """It renders with the model it has loaded until another has waited for `affinity_seconds`."""
    with_painter(farm)
    mine = account_id(farm)
    for name in ("one", "other"):
        sessions.create(farm, account_id=mine, name=name, budget_gpu_ms=BUDGET_MS)
        model = "fake" if name == "one" else "painter"
        submit(farm, brief(seconds=8.0, model=model), session=name)
        submit(farm, brief(seconds=8.0, model=model), session=name)
    hand = Hand(farm, clock, models=("fake", "painter"))
    models: list[tuple[int, str]] = []
    while order := hand.claim():
        if isinstance(order.work, RenderWork):
            models.append((clock(), order.work.model))
        hand.done(order, gpu_ms=4_000, seconds=4.0)
    turns = [(at, model) for n, (at, model) in enumerate(models) if models[n - 1][1] != model]
    stays = [later - at for (at, _), (later, _) in pairwise(turns)]
    stay_ms = farm.terms.affinity_ms
    assert len(turns) > 2 and len(turns) < len(models) / 4, models
    assert all(stay <= stay_ms + 20_000 for stay in stays), stays


def test_a_model_just_taken_up_is_stayed_with_whoever_waited_before(
    farm: Farm, clock: Clock
) -> None:
    """Somebody of the old model who waited all along does not send the worker straight back."""
    with_painter(farm)
    mine = account_id(farm)
    for name, model in (("one", "fake"), ("other", "painter"), ("third", "fake")):
        sessions.create(farm, account_id=mine, name=name, budget_gpu_ms=BUDGET_MS)
        submit(farm, brief(seconds=8.0, model=model), session=name)
    hand = Hand(farm, clock, models=("fake", "painter"), kinds=(UnitKind.PARSE, UnitKind.RENDER))
    for _ in range(3):
        order = hand.claim()
        assert order and isinstance(order.work, ParseWork)
        hand.done(order, gpu_ms=1, seconds=0.001)
    clock.advance(2 * farm.terms.affinity_ms / 1000)
    with farm.store.write() as tx:
        for name, virtual_us in (("other", 0), ("third", 1), ("one", 10**12)):
            row = sessions.find(farm, mine, name)
            tx.save(row, replace(row, virtual_us=virtual_us))
    models = []
    for _ in range(3):
        order = hand.claim()
        assert order and isinstance(order.work, RenderWork)
        models.append(order.work.model)
        hand.done(order, gpu_ms=1_000, seconds=1.0)
    assert models == ["painter"] * 3


def test_a_job_that_no_device_serves_holds_no_time_back(farm: Farm, clock: Clock) -> None:
    """A newcomer joins where its model's devices are, not where somebody stuck has stayed."""
    with_painter(farm)
    mine = account_id(farm)
    for name in ("stuck", "busy", "new"):
        sessions.create(farm, account_id=mine, name=name, budget_gpu_ms=BUDGET_MS)
    stuck = submit(farm, brief(seconds=8.0, model="painter"), session="stuck")
    busy = submit(farm, brief(seconds=8.0), session="busy")
    serve(farm, Hand(farm, clock), 8)
    new = submit(farm, brief(seconds=8.0), session="new")
    low, high = pass_of(farm, stuck.session_id), pass_of(farm, busy.session_id)
    assert low < pass_of(farm, new.session_id) <= high


def test_a_newcomer_joins_beside_those_at_work(farm: Farm, clock: Clock) -> None:
    """A paused job that keeps budget held does not hold back the virtual time of a newcomer."""
    mine = account_id(farm)
    for name in ("sleeper", "busy", "new"):
        sessions.create(farm, account_id=mine, name=name, budget_gpu_ms=BUDGET_MS)
    hand = Hand(farm, clock)
    sleeper = submit(farm, brief(seconds=8.0), session="sleeper")
    while not jobs.get(farm, None, sleeper.id).frames_done:
        serve(farm, hand, 1)
    paused = jobs.pause(farm, None, sleeper.id)
    assert paused.state is JobState.PAUSED and paused.held_gpu_ms
    busy = submit(farm, brief(seconds=8.0), session="busy")
    serve(farm, hand, 6)
    new = submit(farm, brief(seconds=8.0), session="new")
    virtual = pass_of(farm, busy.session_id)
    assert 0.8 * virtual <= pass_of(farm, new.session_id) <= virtual
    jobs.resume(farm, None, sleeper.id)
    assert pass_of(farm, sleeper.session_id) == pass_of(farm, new.session_id)


def test_who_worked_alone_owes_nobody(farm: Farm, clock: Clock) -> None:
    """Time that a session used while nobody else wanted the farm is not held against it."""
    mine = account_id(farm)
    for name in ("early", "late"):
        sessions.create(farm, account_id=mine, name=name, budget_gpu_ms=BUDGET_MS)
    hand = Hand(farm, clock)
    submit(farm, brief(seconds=8.0), session="early")
    hand.work_off()
    late = submit(farm, brief(seconds=8.0), session="late")
    early = submit(farm, brief(seconds=8.0), session="early")
    assert pass_of(farm, early.session_id) == pass_of(farm, late.session_id) > 0
    granted = serve(farm, hand, 8)
    assert min(granted.values()) > 0 and len(granted) == 2
