"""Changes of plans under months, sessions and jobs that are there (SQLite and Postgres)."""

from dataclasses import replace

import pytest

from orchestrator.errors import BudgetExceeded, PlanLimit
from orchestrator.farm import Farm, check, jobs
from orchestrator.farm.accounts import accounts, sessions
from orchestrator.farm.jobs import waiting
from orchestrator.farm.kernel.owned import named_session
from orchestrator.farm.leases import reconcile
from orchestrator.model import Job, Month, Session
from orchestrator.money.plans import Plan, Plans, shipped
from orchestrator.remedies import ChangePlan, TopUp
from orchestrator.states import Cause, EntryKind, JobState, Outcome
from tests.factories import Clock, Hand, account_id, brief, submit


def with_plan(farm: Farm, **changes: object) -> Farm:
    """Return the farm as it starts again with a file of plans that has one more, `own`."""
    studio = shipped().named("studio")
    own: Plan = replace(studio, name="own", **changes)  # type: ignore[arg-type]
    return replace(farm, plans=Plans({**shipped().plans, "own": own}))


def without_plan(farm: Farm) -> Farm:
    """Return the farm as it starts again with a file that has no plan `own`."""
    return replace(farm, plans=shipped())


def on_plan(farm: Farm, **changes: object) -> Farm:
    """Put the home account on the plan `own`."""
    farm = with_plan(farm, **changes)
    accounts.set_plan(farm, account_id(farm), "own")
    return farm


def month_of(farm: Farm) -> Month:
    """Return the home account's month as it is shown."""
    return accounts.look(farm, account_id(farm)).month


def stored(farm: Farm) -> Month:
    """Return the home account's month as its row says."""
    with farm.store.read() as tx:
        found = tx.get(Month, month_of(farm).id)
    assert found
    return found


def default(farm: Farm) -> Session:
    """Return the home account's session."""
    return sessions.find(farm, account_id(farm), None)


def why(farm: Farm, job: Job) -> str | None:
    """Return why a job waits, in a word."""
    found = waiting.reason(farm, jobs.get(farm, None, job.id))
    return found.code if found else None


# --- the month's cap -------------------------------------------------------------------------


def test_a_lower_cap_in_the_file_counts_from_the_next_submission(farm: Farm) -> None:
    """After a start with a lower cap the month shows it, and refuses what does not fit."""
    farm = on_plan(farm, month_gpu_ms=600_000)
    first = submit(farm)
    farm = with_plan(farm, month_gpu_ms=first.held_gpu_ms + 1)
    assert month_of(farm).cap_gpu_ms == first.held_gpu_ms + 1
    with pytest.raises(BudgetExceeded, match="month") as refused:
        submit(farm)
    assert refused.value.data["available_gpu_ms"] == 1
    assert check.violations(farm) == []


def test_a_lower_cap_in_the_file_counts_from_the_next_lease(farm: Farm, clock: Clock) -> None:
    """A hold that was promised stays; the limit is clamped at it, and the lease takes no more."""
    farm = on_plan(farm, month_gpu_ms=600_000)
    job = submit(farm)
    farm = with_plan(farm, month_gpu_ms=1)
    assert Hand(farm, clock).claim()
    now = stored(farm)
    assert (now.cap_gpu_ms, now.limit_gpu_ms) == (1, job.held_gpu_ms)
    assert now.available_gpu_ms == 0
    jobs.cancel(farm, None, job.id)
    assert check.violations(farm) == []


def test_a_lower_cap_sinks_as_holds_release(farm: Farm) -> None:
    """A limit clamped above the new cap comes down to it, and never under what is used."""
    farm = on_plan(farm, month_gpu_ms=600_000)
    job = submit(farm)
    farm = with_plan(farm, month_gpu_ms=1)
    jobs.cancel(farm, None, job.id)
    now = stored(farm)
    assert (now.cap_gpu_ms, now.limit_gpu_ms, now.available_gpu_ms) == (1, 1, 1)
    assert check.violations(farm) == []


def test_a_higher_cap_in_the_file_counts_at_once(farm: Farm) -> None:
    """A month that was used up takes a job again after a start with a higher cap."""
    farm = on_plan(farm, month_gpu_ms=1)
    with pytest.raises(BudgetExceeded):
        submit(farm)
    farm = with_plan(farm, month_gpu_ms=600_000)
    assert submit(farm).state is JobState.QUEUED
    assert stored(farm).limit_gpu_ms == 600_000
    farm = with_plan(farm, month_gpu_ms=None)
    submit(farm)
    assert stored(farm).limit_gpu_ms is None
    assert check.violations(farm) == []


def test_a_higher_cap_lets_paused_jobs_go_on_by_itself(farm: Farm, clock: Clock) -> None:
    """Nobody has to resume what was paused for the month: the farm looks when plans change."""
    job = submit(farm)
    farm = on_plan(farm, month_gpu_ms=0)
    hand = Hand(farm, clock)
    while order := hand.claim():
        hand.done(order, gpu_ms=10**6, seconds=20)
    assert jobs.get(farm, None, job.id).state is JobState.PAUSED
    farm = with_plan(farm, month_gpu_ms=10**9)
    assert reconcile.turn_plans(farm)
    assert not reconcile.turn_plans(farm)
    assert jobs.get(farm, None, job.id).state is JobState.QUEUED
    assert check.violations(farm) == []


# --- a plan that is gone -----------------------------------------------------------------------


def test_a_plan_that_the_file_has_no_more_runs_nothing(farm: Farm, clock: Clock) -> None:
    """No lease, no new job; each says `plan`; and it goes on when the plan is back."""
    farm = on_plan(farm)
    job = submit(farm)
    gone = without_plan(farm)
    hand = Hand(gone, clock)
    assert hand.claim() is None
    assert why(gone, job) == "plan"
    assert stored(gone).plan == ""
    with pytest.raises(PlanLimit) as refused:
        submit(gone)
    assert "'own'" in refused.value.message
    assert month_of(gone).plan == ""
    assert reconcile.turn_plans(gone)
    back = with_plan(farm)
    assert reconcile.turn_plans(back)
    Hand(back, clock, "two").work_off()
    assert jobs.get(back, None, job.id).state is JobState.SUCCEEDED
    assert check.violations(back) == []


def test_accounts_whose_plan_is_gone_stand_in_nobodys_way(farm: Farm, clock: Clock) -> None:
    """However many of their sessions come first, others are served."""
    farm = with_plan(farm)
    for number in range(20):
        guest = accounts.create(farm, name=f"guest {number}", plan="own").account
        jobs.submit(farm, account_id=guest.id, session_id=None, brief=brief())
    mine = submit(farm)
    with farm.store.write() as tx:
        last = named_session(tx, account_id(farm), None, lock=True)
        tx.save(last, replace(last, virtual_us=10**9))
    farm = without_plan(farm)
    assert reconcile.turn_plans(farm)
    order = Hand(farm, clock).claim()
    assert order
    assert order.job_id == mine.id


def test_many_accounts_are_brought_under_plans_a_few_at_a_time(farm: Farm) -> None:
    """Each look takes the next ones, until all are; other plans meanwhile begin anew."""
    farm = with_plan(farm)
    guests = [accounts.create(farm, name=f"g{n}", plan="own").account.id for n in range(4)]

    def lowered(most_gpu_ms: int) -> int:
        limits = [sessions.find(farm, guest, None).limit_gpu_ms for guest in guests]
        return limits.count(most_gpu_ms)

    farm = with_plan(farm, most_session_gpu_ms=7)
    assert reconcile.turn_plans(farm, 2)
    assert 1 <= lowered(7) <= 2
    farm = with_plan(farm, most_session_gpu_ms=5)
    assert [reconcile.turn_plans(farm, 2) for _ in range(4)] == [True, True, True, False]
    assert lowered(5) == 4
    assert check.violations(farm) == []


def test_lists_say_that_an_account_has_no_plan(farm: Farm, clock: Clock) -> None:
    """A list tells of a queued job what its own page does, whoever's it is, in one look."""
    Hand(farm, clock)
    guest = accounts.create(farm, name="guest", plan="studio").account
    other = jobs.submit(farm, account_id=guest.id, session_id=None, brief=brief()).job
    mine = submit(farm)
    accounts.set_plan(farm, guest.id, accounts.NO_PLAN)
    told = waiting.queued(farm, [mine, other])
    assert (told[mine.id].code, told[other.id].code) == ("device", "plan")
    assert told[other.id].remedies == (ChangePlan(guest.id),)
    assert told[other.id] == waiting.reason(farm, jobs.get(farm, None, other.id))


# --- what a session may have -------------------------------------------------------------------


def test_a_lower_plan_lowers_its_open_sessions(farm: Farm) -> None:
    """Each session above the plan's most is lowered as by hand; others stay as they are."""
    mine = account_id(farm)
    job = submit(farm)
    small = sessions.create(farm, account_id=mine, name="small", budget_gpu_ms=500)
    closed = sessions.create(farm, account_id=mine, name="closed", budget_gpu_ms=5_000)
    closed = sessions.close(farm, mine, closed.id)
    farm = on_plan(farm, most_session_gpu_ms=1_000)
    session = default(farm)
    assert (session.limit_gpu_ms, session.available_gpu_ms) == (job.held_gpu_ms, 0)
    assert sessions.get(farm, None, small.id) == small
    assert sessions.get(farm, None, closed.id) == closed
    jobs.cancel(farm, None, job.id)
    assert default(farm).limit_gpu_ms == 1_000
    takes = [e for e in sessions.entries(farm, None, session.id) if e.kind is EntryKind.TAKE]
    assert len(takes) == 2
    assert check.violations(farm) == []


def test_a_lower_plan_leaves_a_session_what_it_spent(farm: Farm, clock: Clock) -> None:
    """A session that spent more than the new most keeps that as its limit, with nothing left."""
    job = submit(farm)
    Hand(farm, clock).work_off(gpu_ms=50)
    spent = jobs.get(farm, None, job.id).spent_gpu_ms
    farm = on_plan(farm, most_session_gpu_ms=1)
    assert (default(farm).limit_gpu_ms, default(farm).available_gpu_ms) == (spent, 0)
    with pytest.raises(BudgetExceeded):
        submit(farm)
    assert check.violations(farm) == []


def test_a_lower_most_in_the_file_lowers_sessions_too(farm: Farm) -> None:
    """The farm's look after a start brings every session under it; a submission does it before."""
    farm = on_plan(farm)
    assert reconcile.turn_plans(farm)
    assert default(farm).limit_gpu_ms > 1_000
    farm = with_plan(farm, most_session_gpu_ms=1_000)
    assert reconcile.turn_plans(farm)
    assert default(farm).limit_gpu_ms == 1_000
    farm = with_plan(farm, most_session_gpu_ms=1)
    quote = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=brief())
    with pytest.raises(BudgetExceeded) as refused:
        submit(farm, alternatives=True)
    assert refused.value.data["available_gpu_ms"] == quote.available_gpu_ms == 1
    assert quote.refusal and quote.refusal.remedies == refused.value.remedies
    assert check.violations(farm) == []


def test_a_refund_sinks_a_session_that_is_to_be_lower(farm: Farm, clock: Clock) -> None:
    """A refund of a job that the farm could not do is no way around a lower limit."""
    job = submit(farm)
    hand = Hand(farm, clock)
    order = hand.claim()
    assert order
    hand.done(order, 5)
    farm = on_plan(farm, most_session_gpu_ms=1)
    for number in range(farm.terms.max_attempts):
        other = Hand(farm, clock, f"broken {number}")
        order = other.claim()
        assert order
        other.complete(order, Outcome.FAILED, cause=Cause.WORKER)
    assert jobs.get(farm, None, job.id).state is JobState.FAILED
    assert default(farm).limit_gpu_ms == 1
    assert check.violations(farm) == []


# --- a top-up while a limit sinks --------------------------------------------------------------


def test_a_top_up_does_not_undo_a_lowering(farm: Farm) -> None:
    """While a limit sinks, a top-up raises where it sinks to; it does not forget it."""
    job = submit(farm)
    session = default(farm)
    sessions.lower(farm, None, session.id, 10)
    raised = sessions.top_up(farm, None, session.id, 1)
    assert (raised.limit_gpu_ms, raised.available_gpu_ms) == (job.held_gpu_ms, 0)
    jobs.cancel(farm, None, job.id)
    assert default(farm).limit_gpu_ms == 11
    assert sessions.top_up(farm, None, session.id, 9).limit_gpu_ms == 20
    assert check.violations(farm) == []


def test_a_refusal_of_a_sinking_session_names_what_helps(farm: Farm) -> None:
    """The top-up that a refusal asks for is enough, though part of it sinks at once."""
    first = submit(farm)
    session = default(farm)
    sessions.lower(farm, None, session.id, first.held_gpu_ms - 100)
    with pytest.raises(BudgetExceeded) as refused:
        submit(farm)
    missing = refused.value.data["missing_gpu_ms"]
    assert refused.value.remedies[0] == TopUp(session.id, session.name, missing)
    sessions.top_up(farm, None, session.id, missing)
    assert submit(farm).state is JobState.QUEUED
    assert check.violations(farm) == []
