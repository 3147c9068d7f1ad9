"""Keys that are bound to a session and to an allowance (SQLite and Postgres)."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from orchestrator.errors import (
    BadRequest,
    BudgetExceeded,
    Conflict,
    NotAllowed,
    NotFound,
)
from orchestrator.farm import Farm, check, jobs
from orchestrator.farm.accounts import accounts, allowances, keys, sessions
from orchestrator.farm.accounts.keys import Bounds
from orchestrator.farm.jobs import waiting
from orchestrator.model import Allowance, Job, Key
from orchestrator.remedies import RaiseAllowance, Reopen, UseSession
from orchestrator.states import JobState, KeyKind, OnExhausted, PauseReason, Scope
from tests.factories import Clock, Hand, account_id, bound_key, brief, submit
from web.threads import in_thread

CROWD = 8


def standing(farm: Farm, key: Key) -> Allowance:
    """Return a key's allowance as it is now."""
    return allowances.of(farm, [key])[str(key.allowance_id)]


def held_for(farm: Farm) -> int:
    """Return what the usual job holds."""
    quote = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=brief()).quote
    return quote.p90_gpu_ms


def test_an_allowance_bounds_all_jobs_of_a_key(farm: Farm) -> None:
    """Of two sessions with budget enough a key holds no more than its own; another key may."""
    each = held_for(farm)
    key = bound_key(farm, gpu_ms=2 * each + 1)
    sessions.create(farm, account_id=account_id(farm), name="other", budget_gpu_ms=10**6)
    submit(farm, asker=key)
    submit(farm, session="other", asker=key)
    with pytest.raises(BudgetExceeded, match="key that submitted it") as refused:
        submit(farm, asker=key)
    facts = refused.value.data
    assert (facts["limit"], facts["limit_gpu_ms"]) == ("key", 2 * each + 1)
    assert (facts["needed_gpu_ms"], facts["available_gpu_ms"]) == (each, 1)
    assert refused.value.remedies[0] == RaiseAllowance(key.id, 3 * each)
    assert len(facts["held_by"]) == 2
    submit(farm)
    now = standing(farm, key)
    assert (now.held_gpu_ms, now.spent_gpu_ms, now.available_gpu_ms) == (2 * each, 0, 1)
    assert check.violations(farm) == []


def test_a_quote_says_what_the_allowance_would(farm: Farm) -> None:
    """A quote has the room of the key that asks, and the refusal that a submission would get."""
    each = held_for(farm)
    key = bound_key(farm, gpu_ms=each - 1)
    told = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=brief(), key=key)
    assert (told.available_gpu_ms, told.fits) == (each - 1, False)
    assert told.refusal
    assert told.refusal.data["limit"] == "key"


def test_a_crowd_never_passes_an_allowance(farm: Farm) -> None:
    """Eight submissions at one moment, over two sessions: as many as fit, and not one more."""
    each = held_for(farm)
    key = bound_key(farm, gpu_ms=3 * each)
    sessions.create(farm, account_id=account_id(farm), name="other", budget_gpu_ms=10**6)
    start = Barrier(CROWD)

    def ask(number: int) -> Job | Exception:
        start.wait(10)
        try:
            return in_thread(
                lambda: submit(farm, session=("default", "other")[number % 2], asker=key)
            )
        except Exception as error:  # noqa: BLE001 - it is what the test looks at
            return error

    with ThreadPoolExecutor(CROWD) as crowd:
        made = list(crowd.map(ask, range(CROWD)))
    assert sum(isinstance(one, Job) for one in made) == 3, made
    assert sum(isinstance(one, BudgetExceeded) for one in made) == CROWD - 3, made
    assert standing(farm, key).available_gpu_ms == 0
    assert check.violations(farm) == []


def used_up(farm: Farm, clock: Clock, key: Key, **asked: object) -> Job:
    """Return a job of a key after every unit of it cost as much as it may."""
    job, hand = submit(farm, brief(seconds=8.0, **asked), asker=key), Hand(farm, clock)
    while order := hand.claim():
        hand.done(order, gpu_ms=10**6, seconds=20)
    return jobs.get(farm, None, job.id)


def test_a_hold_grows_within_the_allowance_alone(farm: Farm, clock: Clock) -> None:
    """A job that costs more than was quoted stops there; a higher allowance lets it go on."""
    quote = jobs.estimate(
        farm, account_id=account_id(farm), session_id=None, brief=brief(seconds=8.0)
    ).quote
    key = bound_key(farm, gpu_ms=quote.p90_gpu_ms + 100)
    job = used_up(farm, clock, key)
    assert (job.state, job.pause_reason) == (JobState.PAUSED, PauseReason.BUDGET)
    now = standing(farm, key)
    assert now.held_gpu_ms + now.spent_gpu_ms <= quote.p90_gpu_ms + 100
    why = waiting.reason(farm, job)
    assert why
    raised = why.remedies[0]
    assert isinstance(raised, RaiseAllowance)
    assert raised.goes_on
    sessions.top_up(farm, None, job.session_id, 10**6)
    assert jobs.get(farm, None, job.id).state is JobState.PAUSED
    with pytest.raises(BudgetExceeded, match="the key that submitted it"):
        jobs.resume(farm, None, job.id)
    assert check.violations(farm) == []
    allowances.change(farm, None, key.id, raised.gpu_ms)
    assert jobs.get(farm, None, job.id).state is JobState.QUEUED
    assert check.violations(farm) == []


def test_what_a_job_ends_with_is_the_allowances_end_too(farm: Farm, clock: Clock) -> None:
    """A job that finishes with what it has stays within the allowance, and gives back the rest."""
    asked = brief(seconds=8.0, on_exhausted=OnExhausted.FINISH)
    quote = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=asked).quote
    key = bound_key(farm, gpu_ms=quote.p90_gpu_ms)
    job = used_up(farm, clock, key, on_exhausted=OnExhausted.FINISH)
    Hand(farm, clock, "last").work_off()
    job, now = jobs.get(farm, None, job.id), standing(farm, key)
    assert job.state.is_terminal
    assert (now.held_gpu_ms, now.spent_gpu_ms) == (0, job.spent_gpu_ms)
    assert check.violations(farm) == []


def test_a_successor_goes_on_with_the_allowance(farm: Farm) -> None:
    """Rotated keys have one allowance together, and neither ends with the first of them."""
    each = held_for(farm)
    first = bound_key(farm, gpu_ms=2 * each, session="default")
    submit(farm, asker=first)
    second, _ = keys.rotate(farm, None, first.id, keep_seconds=0)
    assert (second.first_id, second.session_id) == (first.id, first.session_id)
    job = submit(farm, asker=second)
    assert job.key_id == first.id
    third, _ = keys.rotate(farm, None, second.id, keep_seconds=0)
    for key in (second, third):
        with pytest.raises(BudgetExceeded):
            submit(farm, asker=key)
    allowances.change(farm, None, third.id, 3 * each)
    submit(farm, asker=third)
    assert standing(farm, first).available_gpu_ms == 0
    assert check.violations(farm) == []


def test_an_allowance_is_not_less_than_what_was_used(farm: Farm) -> None:
    """Neither less than is held, nor nothing, nor without end; a key without one gets none."""
    each = held_for(farm)
    key = bound_key(farm, gpu_ms=each)
    submit(farm, asker=key)
    for wrong in (each - 1, 0, -1, 10**30):
        with pytest.raises(BadRequest):
            allowances.change(farm, None, key.id, wrong)
    free, _ = keys.create(farm, account_id=account_id(farm), kind=KeyKind.SUBMIT, name="f")
    with pytest.raises(Conflict, match="no allowance"):
        allowances.change(farm, None, free.id, each)
    guest = accounts.create(farm, name="guest", plan="free").account.id
    with pytest.raises(NotFound):
        allowances.change(farm, guest, key.id, 2 * each)
    assert standing(farm, key).limit_gpu_ms == each


@pytest.mark.parametrize("gpu_ms", [0, -1, 10**30])
def test_an_impossible_sum_is_refused(farm: Farm, gpu_ms: int) -> None:
    """And no key is made."""
    with pytest.raises(BadRequest, match="not possible"):
        bound_key(farm, gpu_ms=gpu_ms)
    assert all(key.name != "b" for key in keys.listing(farm, None))


@pytest.mark.parametrize("kind", [KeyKind.READ, KeyKind.PAY, KeyKind.CONFIGURE, KeyKind.ADMIN])
def test_what_spends_nothing_is_not_bound(farm: Farm, kind: KeyKind) -> None:
    """An allowance would bind nothing there; an admin key may do everything."""
    bounds = Bounds(gpu_ms=1)
    with pytest.raises(BadRequest, match="spends nothing"):
        keys.create(farm, account_id=account_id(farm), kind=kind, name="b", bounds=bounds)


def test_a_bound_key_has_no_scope_that_passes_its_bounds(farm: Farm) -> None:
    """A user key reads and spends then; it neither steers others' jobs nor pays."""
    bounds = Bounds(session="default")
    key, _ = keys.create(
        farm, account_id=account_id(farm), kind=KeyKind.USER, name="b", bounds=bounds
    )
    assert key.scopes == {Scope.READ, Scope.SPEND}


def test_a_key_spends_from_its_session_alone(farm: Farm) -> None:
    """By no name it means that one; by another's it is told which one it is bound to."""
    mine = sessions.create(farm, account_id=account_id(farm), name="mine", budget_gpu_ms=10**6)
    key = bound_key(farm, session="mine")
    for named in (None, "mine", mine.id):
        assert submit(farm, session=named, asker=key).session_id == mine.id
    for other in ("default", "ses_none", "nowhere"):
        with pytest.raises(NotAllowed, match="bound to session 'mine'") as refused:
            submit(farm, session=other, asker=key)
        assert refused.value.remedies == (UseSession(mine.id, "mine"),)
        with pytest.raises(NotAllowed):
            jobs.estimate(
                farm, account_id=account_id(farm), session_id=other, brief=brief(), key=key
            )


def test_a_bound_key_waits_for_its_session(farm: Farm) -> None:
    """While that is closed nothing helps but its reopening."""
    mine = sessions.find(farm, account_id(farm), None)
    sessions.create(farm, account_id=account_id(farm), name="other", budget_gpu_ms=10**6)
    key = bound_key(farm, session=mine.id)
    sessions.close(farm, None, mine.id)
    with pytest.raises(Conflict, match="closed") as refused:
        submit(farm, asker=key)
    assert refused.value.remedies == (Reopen(mine.id, "default"),)


def test_a_session_of_another_account_binds_no_key(farm: Farm) -> None:
    """It is as if it were not there."""
    guest = accounts.create(farm, name="guest", plan="free").account.id
    theirs = sessions.find(farm, guest, None)
    with pytest.raises(NotFound):
        bound_key(farm, session=theirs.id)
