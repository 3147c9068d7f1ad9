"""Refusals and waits, in words (SQLite and Postgres)."""

from dataclasses import replace

import pytest

from orchestrator.errors import BudgetExceeded
from orchestrator.farm import Farm, jobs
from orchestrator.farm.accounts import accounts, sessions
from orchestrator.farm.jobs import waiting
from orchestrator.farm.jobs.waiting import Waiting
from orchestrator.farm.leases import fleet
from orchestrator.model import Job
from orchestrator.money.plans import Plans, shipped
from orchestrator.remedies import ChangePlan, OpenSession, TopUp, WaitForMonth
from orchestrator.states import JobState, UnitKind
from tests.factories import Clock, Hand, account_id, brief, submit


def why(farm: Farm, job: Job) -> Waiting | None:
    """Return why a job waits now."""
    return waiting.reason(farm, jobs.get(farm, None, job.id))


def code(farm: Farm, job: Job) -> str | None:
    """Return it in a word."""
    found = why(farm, job)
    return found.code if found else None


def test_a_queued_job_says_what_is_in_its_way(farm: Farm, clock: Clock) -> None:
    """No worker, then a free one, then a frozen farm, then no plan; nothing while it runs."""
    job = submit(farm)
    assert code(farm, job) == "worker"
    hand = Hand(farm, clock)
    assert code(farm, job) == "device"
    fleet.freeze(farm, frozen=True)
    assert code(farm, job) == "frozen"
    fleet.freeze(farm, frozen=False)
    accounts.set_plan(farm, account_id(farm), accounts.NO_PLAN)
    assert code(farm, job) == "plan"
    accounts.set_plan(farm, account_id(farm), "studio")
    order = hand.claim()
    assert order and code(farm, job) is None
    hand.done(order)
    jobs.pause(farm, None, job.id)
    assert code(farm, job) == "user"
    jobs.cancel(farm, None, job.id)
    assert code(farm, job) is None


def test_a_model_that_no_worker_serves_is_named(farm: Farm, clock: Clock) -> None:
    """A job whose next unit nobody there can do says which queue is not served."""
    job = submit(farm)
    planner = Hand(farm, clock, kinds=(UnitKind.PARSE,), models=())
    planner.work_off()
    waits = why(farm, job)
    assert waits and waits.code == "worker" and "render.fake" in waits.what


def test_a_waiting_job_knows_its_place(farm: Farm, clock: Clock) -> None:
    """It says how many jobs are ahead, and for about how long, as its quote and theirs say."""
    mine = account_id(farm)
    sessions.create(farm, account_id=mine, name="other", budget_gpu_ms=10**6)
    Hand(farm, clock)
    first, second = submit(farm), submit(farm)
    told = [why(farm, first), why(farm, second)]
    assert [each and each.jobs_ahead for each in told] == [0, 1]
    assert told[0] and told[0].what == "It waits for a device: it is next, about 1 s."
    assert told[1] and told[1].eta_ms == first.quote.p50_gpu_ms
    assert told[1].what.startswith("It waits for a device: 1 job ahead, about ")


def test_where_no_device_serves_there_is_no_time(farm: Farm, clock: Clock) -> None:
    """Without a worker, or frozen, nobody can know when it goes on; the reason says why."""
    job = submit(farm)
    waits = why(farm, job)
    assert waits and (waits.jobs_ahead, waits.eta_ms) == (None, None)
    assert waiting.queued(farm, [job])[job.id].code == "worker"
    fleet.freeze(farm, frozen=True)
    assert waiting.queued(farm, [job])[job.id].code == "frozen"


def test_one_look_serves_all_who_wait(farm: Farm, clock: Clock) -> None:
    """Places come from one look at the line, until it is two seconds old."""
    farm = replace(farm, terms=replace(farm.terms, look_seconds=2.0))
    Hand(farm, clock)
    jobs_in_line = [submit(farm) for _ in range(3)]
    assert [each.jobs_ahead for each in waiting.queued(farm, jobs_in_line).values()] == [0, 1, 2]
    jobs.cancel(farm, None, jobs_in_line[0].id)
    last = jobs_in_line[2]
    seen = why(farm, last)
    assert seen and seen.jobs_ahead == 2
    clock.advance(2.1)
    seen = why(farm, last)
    assert seen and seen.jobs_ahead == 1


def test_who_has_come_since_the_last_look_has_a_place(farm: Farm, clock: Clock) -> None:
    """A new job is looked for anew, alone or in a list; a crowd has to wait for the next look."""
    farm = replace(farm, terms=replace(farm.terms, look_seconds=2.0))
    Hand(farm, clock)
    first = submit(farm)
    seen = why(farm, first)
    assert seen and seen.jobs_ahead == 0
    second = submit(farm)
    clock.advance(0.1)
    seen = why(farm, second)
    assert seen and seen.jobs_ahead == 1 and seen.eta_ms
    third = submit(farm)
    clock.advance(0.1)
    assert waiting.queued(farm, [first, second, third])[third.id].jobs_ahead == 2
    places = []
    for _ in range(waiting.LOOKS_AGAIN + 3):
        job = submit(farm)
        clock.advance(0.01)
        seen = why(farm, job)
        places.append(seen.jobs_ahead if seen else None)
    assert places[0] == 3
    assert places[-1] is None
    clock.advance(2)
    seen = why(farm, job)
    assert seen and seen.jobs_ahead == 2 + len(places)


def test_a_refusal_names_limit_holders_and_way_out(farm: Farm, clock: Clock) -> None:
    """Which session, what holds how much of it until when, what is missing, what helps."""
    quote = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=brief()).quote
    small = sessions.create(
        farm, account_id=account_id(farm), name="s", budget_gpu_ms=quote.p90_gpu_ms + 1
    )
    first = submit(farm, session=small.id)
    order = Hand(farm, clock).claim()
    assert order
    with pytest.raises(BudgetExceeded, match="session 's' has") as refused:
        submit(farm, session=small.id)
    data = refused.value.data
    assert data["limit"] == "session" and data["limit_gpu_ms"] == small.limit_gpu_ms
    assert data["missing_gpu_ms"] == quote.p90_gpu_ms - 1
    [holder] = data["held_by"]
    assert holder["job_id"] == first.id and holder["lease_until_ms"] > clock()
    assert refused.value.remedies[0] == TopUp(small.id, "s", data["missing_gpu_ms"])
    sessions.top_up(farm, None, small.id, data["missing_gpu_ms"])
    assert submit(farm, session=small.id).state is JobState.QUEUED


def test_a_top_up_beyond_the_plan_is_not_advised(farm: Farm) -> None:
    """If the plan allows no larger session, the refusal says so instead."""
    studio = shipped().named("studio")
    tight = replace(studio, name="tight", session_gpu_ms=5, most_session_gpu_ms=5)
    farm = replace(farm, plans=Plans({**shipped().plans, "tight": tight}))
    accounts.set_plan(farm, account_id(farm), "tight")
    small = sessions.create(farm, account_id=account_id(farm), name="s", budget_gpu_ms=5)
    with pytest.raises(BudgetExceeded) as refused:
        submit(farm, session=small.id)
    assert "The plan tight allows a session no more than 0.005" in refused.value.message
    assert refused.value.remedies[:2] == (ChangePlan(account_id(farm)), OpenSession())


def test_a_month_that_is_used_up_names_its_end(farm: Farm, clock: Clock) -> None:
    """A full month names the holders in all its sessions, and when it begins anew."""
    first = submit(farm)
    studio = farm.plans.named("studio")
    tight = replace(studio, name="tight", month_gpu_ms=first.held_gpu_ms + 1)
    farm = replace(farm, plans=Plans({**shipped().plans, "tight": tight}))
    accounts.set_plan(farm, account_id(farm), "tight")
    sessions.create(farm, account_id=account_id(farm), name="other", budget_gpu_ms=10**6)
    with pytest.raises(BudgetExceeded, match="month") as refused:
        submit(farm, session="other")
    assert refused.value.data["limit"] == "month"
    assert [each["job_id"] for each in refused.value.data["held_by"]] == [first.id]
    assert refused.value.remedies[0] == WaitForMonth("2027-02-01")
    assert ChangePlan(account_id(farm)) in refused.value.remedies


def test_a_job_paused_for_budget_says_what_it_lacks(farm: Farm, clock: Clock) -> None:
    """The wait names what is missing, as the refused resume does, and that much lets it go on."""
    mine = account_id(farm)
    quote = jobs.estimate(farm, account_id=mine, session_id=None, brief=brief()).quote
    small = sessions.create(farm, account_id=mine, name="s", budget_gpu_ms=quote.p90_gpu_ms)
    job = submit(farm, session=small.id)
    hand = Hand(farm, clock)
    while order := hand.claim():
        hand.done(order, gpu_ms=10**6, seconds=20)
    assert jobs.get(farm, None, job.id).state is JobState.PAUSED
    waits = why(farm, job)
    assert waits and waits.code == "budget" and "more than session 's' has left" in waits.what
    with pytest.raises(BudgetExceeded) as refused:
        jobs.resume(farm, None, job.id)
    assert (refused.value.message, refused.value.remedies) == (waits.what, waits.remedies)
    lacks = refused.value.data["missing_gpu_ms"]
    rest = refused.value.data["rest_gpu_ms"] - refused.value.data["available_gpu_ms"]
    assert waits.remedies[0] == TopUp(small.id, "s", rest, goes_on=True) and rest > lacks
    sessions.top_up(farm, None, small.id, lacks)
    assert jobs.get(farm, None, job.id).state is not JobState.PAUSED


def test_two_limits_in_the_way_of_a_paused_job_are_both_named(farm: Farm, clock: Clock) -> None:
    """More of the session alone would end at the month: that comes first, and promises nothing."""
    mine = account_id(farm)
    quote = jobs.estimate(farm, account_id=mine, session_id=None, brief=brief()).quote
    studio = replace(farm.plans.named("studio"), month_gpu_ms=quote.p90_gpu_ms + 3_000)
    farm = replace(farm, plans=Plans({**farm.plans.plans, "studio": studio}))
    small = sessions.create(farm, account_id=mine, name="s", budget_gpu_ms=quote.p90_gpu_ms)
    job = submit(farm, session=small.id)
    hand = Hand(farm, clock)
    while order := hand.claim():
        hand.done(order, gpu_ms=10**6, seconds=20)
    with pytest.raises(BudgetExceeded) as refused:
        jobs.resume(farm, None, job.id)
    assert refused.value.data["limits"] == ["session", "month"]
    assert "The account's month has" in refused.value.message
    first, second, *_ = refused.value.remedies
    assert first == ChangePlan(mine)
    assert isinstance(second, TopUp) and not second.goes_on


def test_no_top_up_is_named_where_the_job_ends_at_its_own_cap(farm: Farm, clock: Clock) -> None:
    """Its session has too little, and its max_gpu_seconds for what it takes too: that stays."""
    mine = account_id(farm)
    quote = jobs.estimate(farm, account_id=mine, session_id=None, brief=brief()).quote
    small = sessions.create(farm, account_id=mine, name="s", budget_gpu_ms=quote.p90_gpu_ms)
    job = submit(farm, brief(max_gpu_ms=quote.p90_gpu_ms + 200), session=small.id)
    hand = Hand(farm, clock)
    while order := hand.claim():
        hand.done(order, gpu_ms=10**6, seconds=20)
    waits = why(farm, job)
    assert waits and "max_gpu_seconds" in waits.what
    assert not any(isinstance(each, TopUp) for each in waits.remedies)
