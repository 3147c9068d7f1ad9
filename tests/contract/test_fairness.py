"""Fair share between sessions, by the weights of their plans (SQLite and Postgres)."""

from collections import Counter
from dataclasses import replace

from orchestrator.farm import Farm, accounts, check, jobs, sessions
from orchestrator.model import Job, Session, Unit
from orchestrator.states import JobState
from orchestrator.tiers import Tiers, shipped
from tests.factories import Clock, Hand, account_id, brief, submit

BUDGET_MS = 10**6


def weighted(farm: Farm, *weights: int) -> tuple[Farm, list[str]]:
    """Return the farm with an account on a plan of each weight."""
    studio = shipped().named("studio")
    plans = {f"w{w}": replace(studio, name=f"w{w}", weight=w, open_jobs=None) for w in weights}
    farm = replace(farm, tiers=Tiers({**shipped().tiers, **plans}))
    return farm, [accounts.create(farm, name=plan, plan=plan).account.id for plan in plans]


def ask(farm: Farm, account: str, session: str, seconds: float = 2.0) -> Job:
    """Submit a job for a session of an account."""
    asked = brief(seconds=seconds)
    return jobs.submit(farm, account_id=account, session_id=session, brief=asked).job


def serve(farm: Farm, hand: Hand, units: int) -> Counter[str]:
    """Let a worker do so many units; return the GPU-ms that each session was granted."""
    granted: Counter[str] = Counter()
    for _ in range(units):
        order = hand.claim()
        assert order, "there is work for all of them"
        with farm.store.read() as tx:
            unit = tx.get(Unit, order.unit_id)
            assert unit
            granted[unit.session_id] += unit.p50_gpu_ms
        hand.done(order, gpu_ms=50)
    return granted


def pass_of(farm: Farm, session: str) -> int:
    """Return a session's virtual time."""
    return sessions.get(farm, None, session).pass_gpu_ms


def test_shares_are_as_the_weights(farm: Farm, clock: Clock) -> None:
    """Three accounts with work without end get GPU-ms as 1 : 2 : 4, to within one unit each."""
    farm, owners = weighted(farm, 1, 2, 4)
    opened: list[Session] = []
    for owner in owners:
        opened.append(sessions.create(farm, account_id=owner, name="s", budget_gpu_ms=BUDGET_MS))
        for _ in range(6):
            ask(farm, owner, "s", seconds=8.0)
    granted = serve(farm, Hand(farm, clock), 70)
    with farm.store.read() as tx:
        largest = max(unit.p50_gpu_ms for unit in tx.find(Unit))
    for session, weight in zip(opened, (1, 2, 4), strict=True):
        fair = granted.total() * weight / 7
        assert abs(granted[session.id] - fair) <= largest, (weight, granted)
    assert check.violations(farm) == []


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
    assert pass_of(farm, new.session_id) == pass_of(farm, busy.session_id)
    jobs.resume(farm, None, sleeper.id)
    assert pass_of(farm, sleeper.session_id) == pass_of(farm, busy.session_id)


def test_who_worked_alone_owes_nobody(farm: Farm, clock: Clock) -> None:
    """What a session used while nobody else wanted the farm is not held against it."""
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
