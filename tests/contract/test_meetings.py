"""Meetings of two rules: a failure beside an open lease, a changed file beside a brake …"""

from dataclasses import replace

import pytest

from orchestrator.errors import NotAllowed
from orchestrator.farm import Farm, check, jobs
from orchestrator.farm.accounts import accounts, sessions
from orchestrator.farm.accounts import keys as farm_keys
from orchestrator.farm.books import economics
from orchestrator.farm.jobs import waiting
from orchestrator.farm.leases import reconcile
from orchestrator.farm.leases import worker_calls as farm_work
from orchestrator.model import Alert, Job
from orchestrator.money.plans import Plans, shipped
from orchestrator.remedies import ChangePlan
from orchestrator.states import (
    AlertAction,
    Cause,
    JobState,
    KeyKind,
    OnExhausted,
    Outcome,
    PauseReason,
)
from tests.factories import Clock, Hand, account_id, brief, submit


@pytest.mark.parametrize("last", [Outcome.STOPPED, Outcome.DONE])
def test_a_job_that_fails_by_our_fault_keeps_no_settlement(
    farm: Farm, clock: Clock, last: Outcome
) -> None:
    """Not that of the lease either which was open when it failed, and ended it by its report."""
    job = submit(farm, brief(seconds=8.0))
    one, other, third = (Hand(farm, clock, name) for name in ("one", "other", "third"))
    plan = one.claim()
    assert plan
    one.done(plan, 10)
    still_open = other.claim()
    assert still_open
    for number in range(12):
        hand = (one, third)[number % 2]
        if order := hand.claim():
            clock.advance(1)
            hand.complete(order, Outcome.FAILED, cause=Cause.FARM, gpu_ms=0, message="disk full")
    clock.advance(1)
    other.complete(still_open, last, gpu_ms=700, message="cancel")
    failed = jobs.get(farm, None, job.id)
    assert (failed.state, failed.spent_gpu_ms) == (JobState.FAILED, 0)
    assert failed.refunded_gpu_ms >= 10
    assert check.violations(farm) == []


def braked(farm: Farm, clock: Clock) -> tuple[Farm, Job, Hand]:
    """Return a job that an alert of the plan `tight` has paused."""
    alerts = (Alert(percent=20, action=AlertAction.PAUSE_ALL),)
    tight = replace(shipped().named("studio"), name="tight", alerts=alerts)
    farm = replace(farm, plans=Plans({**shipped().plans, "tight": tight}))
    mine = account_id(farm)
    accounts.set_plan(farm, mine, "tight")
    while reconcile.turn_plans(farm):
        pass
    asked = brief(seconds=8.0)
    quote = jobs.estimate(farm, account_id=mine, session_id=None, brief=asked).quote
    sessions.create(farm, account_id=mine, name="s", budget_gpu_ms=4 * quote.p90_gpu_ms)
    job, hand = submit(farm, asked, session="s"), Hand(farm, clock)
    while order := hand.claim():
        hand.done(order, order.gpu_ms_limit, seconds=39)
    job = jobs.get(farm, None, job.id)
    assert (job.state, job.pause_reason) == (JobState.PAUSED, PauseReason.BUDGET)
    return farm, job, hand


def test_other_alerts_in_the_file_let_braked_jobs_go_on(farm: Farm, clock: Clock) -> None:
    """A plan that no longer stops all jobs lifts the brake by itself, as other caps do."""
    farm, job, _ = braked(farm, clock)
    milder = replace(
        farm.plans.named("tight"), alerts=(Alert(percent=20, action=AlertAction.NOTIFY),)
    )
    farm = replace(farm, plans=Plans({**farm.plans.plans, "tight": milder}))
    while reconcile.turn_plans(farm):
        pass
    assert jobs.get(farm, None, job.id).state is JobState.QUEUED


def test_a_paused_job_of_nobody_s_plan_waits_for_a_plan(farm: Farm, clock: Clock) -> None:
    """A top-up would be refused: what helps is named instead."""
    farm, job, _ = braked(farm, clock)
    accounts.set_plan(farm, job.account_id, "none")
    why = waiting.reason(farm, jobs.get(farm, None, job.id))
    assert why and why.code == "plan"
    assert why.remedies == (ChangePlan(job.account_id),)


def test_a_worker_of_another_class_leaves_the_past_as_it_was(farm: Farm, clock: Clock) -> None:
    """A key is its class's alone, and the cost of leases is by the device they ran on."""
    submit(farm)
    hand = Hand(farm, clock)
    while order := hand.claim():
        hand.done(order, 1000, seconds=2)
    before = economics.economics(farm, "month", 0)["total"]["cost_microusd"]
    join, _ = farm_keys.create(farm, account_id=None, kind=KeyKind.JOIN, name="again")
    hello = hand.hello().model_copy(update={"device_class": "nvidia-a10g", "device": "cuda:0"})
    own = next(k for k in farm_keys.listing(farm, None) if k.worker_id == hand.id)
    with pytest.raises(NotAllowed, match="devices of class cpu"):
        farm_work.hello(farm, own, hello)
    assert farm_work.hello(farm, join, hello).worker_id != hand.id
    assert economics.economics(farm, "month", 0)["total"]["cost_microusd"] == before


def test_a_video_that_is_paid_for_is_made_in_any_month(farm: Farm, clock: Clock) -> None:
    """Paused while it was encoded, and the next month is full: its reserve is held already."""
    asked = brief(seconds=8.0)
    mine = account_id(farm)
    quote = jobs.estimate(farm, account_id=mine, session_id=None, brief=asked).quote
    tight = replace(shipped().named("studio"), name="tight", month_gpu_ms=2 * quote.p90_gpu_ms)
    farm = replace(farm, plans=Plans({**shipped().plans, "tight": tight}))
    accounts.set_plan(farm, mine, "tight")
    sessions.create(farm, account_id=mine, name="s", budget_gpu_ms=4 * quote.p90_gpu_ms)
    job, hand = submit(farm, asked, session="s"), Hand(farm, clock)
    for _ in range(2):
        order = hand.claim()
        assert order
        hand.done(order, 50)
    jobs.pause(farm, None, job.id)
    jobs.finish(farm, None, job.id)
    jobs.pause(farm, None, job.id)
    clock.advance(40 * 86_400)
    for _ in range(2):
        submit(farm, replace(asked, max_gpu_ms=quote.p90_gpu_ms), session="s")
    assert jobs.finish(farm, None, job.id).state is JobState.ENCODING
    assert check.violations(farm) == []


@pytest.mark.parametrize("intent", [OnExhausted.FINISH, OnExhausted.CANCEL])
def test_a_job_at_its_own_cap_ends_as_it_wished_once_a_brake_is_off(
    farm: Farm, clock: Clock, intent: OnExhausted
) -> None:
    """A brake had paused it before it found its max_gpu_seconds used up: it waits no more."""
    alerts = (Alert(percent=5, action=AlertAction.PAUSE_ALL),)
    tight = replace(shipped().named("studio"), name="tight", alerts=alerts)
    farm = replace(farm, plans=Plans({**shipped().plans, "tight": tight}))
    mine = account_id(farm)
    accounts.set_plan(farm, mine, "tight")
    asked = brief(seconds=8.0, on_exhausted=intent)
    likely = jobs.estimate(farm, account_id=mine, session_id=None, brief=asked).quote.p50_gpu_ms
    own = sessions.create(farm, account_id=mine, name="capped", budget_gpu_ms=3 * likely)
    job, hand = submit(farm, replace(asked, max_gpu_ms=likely), session=own.id), Hand(farm, clock)
    while order := hand.claim():
        hand.done(order, order.gpu_ms_limit, seconds=39)
    job = jobs.get(farm, None, job.id)
    assert (job.state, job.pause_reason) == (JobState.PAUSED, PauseReason.BUDGET)
    assert 0 < job.frames_done < job.frames_total
    sessions.top_up(farm, None, own.id, 200_000)
    hand.work_off(1)
    job = jobs.get(farm, None, job.id)
    ends = {OnExhausted.FINISH: JobState.SUCCEEDED, OnExhausted.CANCEL: JobState.CANCELLED}
    assert (job.state, job.truncated) == (ends[intent], intent is OnExhausted.FINISH)
    assert check.violations(farm) == []
