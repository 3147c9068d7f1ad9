"""Sessions closed and opened again, and the one that requests mean which name none."""

import pytest

from orchestrator.errors import BudgetExceeded, Conflict, NotFound
from orchestrator.farm import Farm, check, jobs
from orchestrator.farm.accounts import accounts, sessions
from orchestrator.farm.kernel import audit_log
from orchestrator.model import Session
from orchestrator.remedies import MoveDefault, OpenSession, Reopen
from orchestrator.states import JobState, PauseReason, SessionState
from tests.factories import Clock, Hand, account_id, brief, submit


def default(farm: Farm) -> Session:
    """Return the home account's default session."""
    return sessions.find(farm, account_id(farm), None)


def test_a_reopened_session_takes_jobs_again(farm: Farm, clock: Clock) -> None:
    """With the limit and the charges it had; twice is once."""
    submit(farm)
    Hand(farm, clock).work_off()
    was = default(farm)
    closed = sessions.close(farm, None, was.id)
    assert closed.state is SessionState.CLOSED
    with pytest.raises(Conflict):
        submit(farm)
    for _ in range(2):
        opened = sessions.reopen(farm, None, was.id)
    assert opened == was
    submit(farm)
    verbs = [entry.verb for entry in audit_log.listing(farm).items]
    assert verbs.count("session.reopen") == 1
    assert check.violations(farm) == []


def test_what_waits_in_a_closed_session_goes_on_when_it_is_reopened(
    farm: Farm, clock: Clock
) -> None:
    """A job that ran out of its hold in a closed session was paused, and is queued again."""
    job, hand = submit(farm, brief(seconds=8.0)), Hand(farm, clock)
    sessions.close(farm, None, job.session_id)
    while order := hand.claim():
        hand.done(order, gpu_ms=10**6, seconds=20)
    paused = jobs.get(farm, None, job.id)
    assert (paused.state, paused.pause_reason) == (JobState.PAUSED, PauseReason.BUDGET)
    with pytest.raises(BudgetExceeded, match="closed") as refused:
        jobs.resume(farm, None, job.id)
    assert isinstance(refused.value.remedies[0], Reopen)
    assert not any(isinstance(each, OpenSession) for each in refused.value.remedies)
    assert check.violations(farm) == []
    sessions.reopen(farm, None, job.session_id)
    assert jobs.get(farm, None, job.id).state is JobState.QUEUED
    assert check.violations(farm) == []


def test_a_reopened_session_is_brought_under_the_plan_of_now(farm: Farm) -> None:
    """A plan that came while it was closed bounds it from its reopening on."""
    mine = sessions.create(farm, account_id=account_id(farm), name="s", budget_gpu_ms=10**7)
    sessions.close(farm, None, mine.id)
    accounts.set_plan(farm, account_id(farm), "free")
    assert sessions.get(farm, None, mine.id).limit_gpu_ms == 10**7
    most = farm.plans.named("free").most_session_gpu_ms
    assert sessions.reopen(farm, None, mine.id).limit_gpu_ms == most
    assert check.violations(farm) == []


def test_a_request_without_a_session_says_how_to_go_on(farm: Farm) -> None:
    """While the default one is closed: reopen it, or make another one the default."""
    first = default(farm)
    sessions.close(farm, None, first.id)
    with pytest.raises(Conflict, match="account's default") as refused:
        submit(farm)
    assert refused.value.remedies == (Reopen(first.id, "default"), OpenSession())
    other = sessions.create(farm, account_id=account_id(farm), name="other", budget_gpu_ms=10**6)
    with pytest.raises(Conflict) as refused:
        submit(farm)
    move = MoveDefault(other.id, "other")
    assert refused.value.remedies == (Reopen(first.id, "default"), move)
    told = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=brief())
    assert told.refusal
    assert told.refusal.remedies == (Reopen(first.id, "default"), move)
    sessions.make_default(farm, None, other.id)
    assert submit(farm).session_id == other.id
    assert sessions.defaults_of(farm, sessions.listing(farm, None).items) == {other.id}


def test_the_default_is_an_open_session_of_the_account(farm: Farm) -> None:
    """A closed one is refused, and another account's is not there."""
    mine = sessions.create(farm, account_id=account_id(farm), name="s", budget_gpu_ms=1)
    sessions.close(farm, None, mine.id)
    with pytest.raises(Conflict) as refused:
        sessions.make_default(farm, None, mine.id)
    assert refused.value.remedies[0] == Reopen(mine.id, "s")
    guest = accounts.create(farm, name="guest", plan="free").account.id
    for verb in (sessions.make_default, sessions.reopen, sessions.close):
        with pytest.raises(NotFound):
            verb(farm, guest, mine.id)
    assert default(farm).name == "default"
    assert sessions.find(farm, guest, None).account_id == guest
