"""Alerts of sessions and months: told once each, and what they stop (SQLite and Postgres)."""

import json
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.errors import BadRequest, BudgetExceeded
from orchestrator.farm import Farm, check, jobs, webhook_queue
from orchestrator.farm.accounts import accounts, sessions
from orchestrator.farm.jobs import waiting
from orchestrator.farm.kernel import audit_log
from orchestrator.farm.leases import reconcile
from orchestrator.model import Alert, Delivery, Job
from orchestrator.money.plans import Plans, shipped
from orchestrator.remedies import AskForLess, ChangeAlerts, TopUp
from orchestrator.states import (
    AlertAction,
    Cause,
    EntryKind,
    JobState,
    OnExhausted,
    Outcome,
    PauseReason,
    UnitState,
)
from orchestrator.wire import EncodeWork, RenderWork
from tests.factories import Clock, Hand, account_id, brief, submit


def listed(*given: tuple[int, str]) -> tuple[Alert, ...]:
    """Return alerts by percent and action."""
    return tuple(Alert(percent, AlertAction(action)) for percent, action in given)


def on_plan(farm: Farm, *given: tuple[int, str], **changes: Any) -> Farm:
    """Put the home account on a plan with these alerts."""
    tight = replace(shipped().named("studio"), name="tight", alerts=listed(*given), **changes)
    farm = replace(farm, plans=Plans({**shipped().plans, "tight": tight}))
    accounts.set_plan(farm, account_id(farm), "tight")
    return farm


def opened(farm: Farm, *, times: int = 4, intent: OnExhausted = OnExhausted.PAUSE) -> Job:
    """Return a job in a session `s` of so many times its quote."""
    asked = brief(seconds=8.0, on_exhausted=intent)
    mine = account_id(farm)
    quote = jobs.estimate(farm, account_id=mine, session_id=None, brief=asked).quote
    budget = times * quote.p90_gpu_ms
    sessions.create(farm, account_id=mine, name="s", budget_gpu_ms=budget)
    return submit(farm, asked, session="s")


def dearly(hand: Hand) -> None:
    """Let every unit cost what its lease allows, until nothing is granted."""
    while order := hand.claim():
        hand.done(order, order.gpu_ms_limit, seconds=39)


def told(farm: Farm, job: Job, scope: str = "session") -> list[int]:
    """Return the percentages that a job's watchers were told of, in their order."""
    events = [event for event in jobs.events(farm, (job.id,), after=0) if event.kind == "budget"]
    return [event.data["percent"] for event in events if event.data["scope"] == scope]


def lines(farm: Farm, session_id: str) -> list[str]:
    """Return the alerts of a session's ledger, oldest first."""
    entries = reversed(sessions.entries(farm, None, session_id))
    return [entry.note for entry in entries if entry.kind is EntryKind.ALERT]


@pytest.mark.parametrize("intent", list(OnExhausted))
def test_pause_all_only_pauses(farm: Farm, clock: Clock, intent: OnExhausted) -> None:
    """Whatever a job does without budget: braked it waits, whole, until spending is under it."""
    farm = on_plan(farm, (5, "notify"), (10, "pause_all"))
    job, hand = opened(farm, intent=intent), Hand(farm, clock)
    dearly(hand)
    job = jobs.get(farm, None, job.id)
    assert (job.state, job.pause_reason) == (JobState.PAUSED, PauseReason.BUDGET)
    assert (job.error, job.truncated) == (None, False)
    assert 0 < job.frames_done < job.frames_total
    assert job.held_gpu_ms == job.encode_reserve_gpu_ms
    with pytest.raises(BudgetExceeded, match="10 % of session 's' is spent") as refused:
        jobs.resume(farm, None, job.id)
    waits = waiting.reason(farm, job)
    assert waits and waits.what == refused.value.message
    assert waits.remedies == refused.value.remedies
    sessions.top_up(farm, None, job.session_id, refused.value.data["missing_gpu_ms"])
    hand.work_off(5)
    job = jobs.get(farm, None, job.id)
    assert (job.state, job.truncated) == (JobState.SUCCEEDED, False)
    assert job.frames_done == job.frames_total
    assert check.violations(farm) == []


@pytest.mark.parametrize("intent", list(OnExhausted))
def test_another_plan_lets_a_braked_job_go_on_whole(
    farm: Farm, clock: Clock, intent: OnExhausted
) -> None:
    """Nothing was dropped meanwhile, neither units nor the latents of the one that was stopped."""
    farm = on_plan(farm, (1, "pause_all"), month_gpu_ms=40_000)
    job, hand = opened(farm, intent=intent), Hand(farm, clock)
    plan = hand.claim()
    assert plan
    hand.done(plan, 5)
    order = hand.claim()
    assert order and isinstance(order.work, RenderWork)
    clock.advance(39)
    hand.complete(order, Outcome.STOPPED, gpu_ms=500, step=1)
    assert hand.claim() is None
    job = jobs.get(farm, None, job.id)
    assert (job.state, job.pause_reason) == (JobState.PAUSED, PauseReason.BUDGET)
    units = [view.unit for view in jobs.units(farm, None, job.id)]
    assert {unit.state for unit in units} == {UnitState.DONE, UnitState.READY}
    assert [unit.checkpoint.step for unit in units if unit.checkpoint] == [1]
    accounts.set_plan(farm, job.account_id, "studio")
    hand.work_off()
    job = jobs.get(farm, None, job.id)
    assert (job.state, job.truncated) == (JobState.SUCCEEDED, False)
    assert check.violations(farm) == []


def test_what_is_finished_is_still_encoded(farm: Farm, clock: Clock) -> None:
    """A brake stops painting; the video of the frames that are there is paid for already."""
    job, hand = opened(farm), Hand(farm, clock)
    while (order := hand.claim()) and not isinstance(order.work, EncodeWork):
        hand.done(order, 500, seconds=5)
    assert order
    hand.release(order)
    farm = on_plan(farm, (1, "pause_all"))
    jobs.pause(farm, None, job.id)
    jobs.resume(farm, None, job.id)
    Hand(farm, clock, "next").work_off()
    assert jobs.get(farm, None, job.id).state is JobState.SUCCEEDED


def test_a_job_cut_off_by_its_own_wish_is_encoded_under_a_brake(farm: Farm, clock: Clock) -> None:
    """An owner who will not wait for the brake to end makes the video of what is there."""
    farm = on_plan(farm, (10, "pause_all"))
    job, hand = opened(farm), Hand(farm, clock)
    dearly(hand)
    jobs.finish(farm, None, job.id)
    hand.work_off(5)
    job = jobs.get(farm, None, job.id)
    assert (job.state, job.truncated) == (JobState.SUCCEEDED, True)


def test_a_settlement_that_jumps_gives_every_threshold(farm: Farm, clock: Clock) -> None:
    """From 0 to all of them at once: an event, a line and a webhook each, ascending, once."""
    farm = on_plan(farm, (1, "notify"), (2, "notify"), (3, "pause_new"), (90, "notify"))
    job, hand = opened(farm), Hand(farm, clock)
    webhook_queue.create(
        farm, account_id=job.account_id, url="https://hooks.example.com/", kinds=("*",)
    )
    plan = hand.claim()
    assert plan
    hand.done(plan, 0)
    order = hand.claim()
    assert order
    hand.done(order, order.gpu_ms_limit, seconds=39)
    assert told(farm, job) == [1, 2, 3]
    assert [note.split()[0] for note in lines(farm, job.session_id)] == ["1", "2", "3"]
    with farm.store.read() as tx:
        sent = [json.loads(m.body)["data"] for m in tx.find(Delivery, kind="budget.threshold")]
    assert [(each["percent"], each["action"]) for each in sent] == [
        (1, "notify"), (2, "notify"), (3, "pause_new"),
    ]  # fmt: skip
    hand.work_off(1)
    assert told(farm, job) == [1, 2, 3]
    assert check.violations(farm) == []


def test_a_refund_takes_alerts_back(farm: Farm, clock: Clock) -> None:
    """With nothing spent again nothing is braked, and a threshold met again is told again."""
    farm = on_plan(farm, (1, "pause_all"), month_gpu_ms=75_000)
    reconcile.turn_month(farm)
    first, one, two = opened(farm), Hand(farm, clock, "one"), Hand(farm, clock, "two")
    plan = one.claim()
    assert plan
    one.done(plan, 0)
    for hand in (two, one):
        order = hand.claim()
        assert order
        hand.complete(order, Outcome.FAILED, gpu_ms=0, cause=Cause.WORKER)
    bad, good, other = two.claim(), one.claim(), submit(farm, brief(seconds=8.0), session="s")
    elsewhere = submit(farm)
    assert bad and good
    one.done(good, good.gpu_ms_limit, seconds=39)
    assert one.claim() is None
    assert told(farm, first) == [1]
    for job in (other, elsewhere):
        assert jobs.get(farm, None, job.id).state is JobState.PAUSED
    assert not reconcile.turn_month(farm)
    two.complete(bad, Outcome.FAILED, gpu_ms=0, cause=Cause.WORKER)
    assert jobs.get(farm, None, first.id).state is JobState.FAILED
    session = sessions.find(farm, first.account_id, "s")
    month = accounts.look(farm, first.account_id).month
    assert (session.spent_gpu_ms, session.alerted_percent, month.alerted_percent) == (0, 0, 0)
    assert reconcile.turn_month(farm) and not reconcile.turn_month(farm)
    for job in (other, elsewhere):
        assert jobs.get(farm, None, job.id).state is JobState.QUEUED
    jobs.cancel(farm, None, elsewhere.id)
    dearly(one)
    assert told(farm, other) == [1, 1]
    assert check.violations(farm) == []


def test_what_a_braked_budget_lacks_is_never_nothing(farm: Farm, clock: Clock) -> None:
    """The advice is the least that lifts the brake, exactly at its threshold 0.001 s, not 0."""
    farm = on_plan(farm, (50, "pause_new"))
    session = sessions.create(farm, account_id=account_id(farm), name="s", budget_gpu_ms=10**6)
    with farm.store.write() as tx:
        held = tx.get(type(session), session.id, lock=True)
        assert held
        tx.save(held, replace(held, spent_gpu_ms=500_000))
    with pytest.raises(BudgetExceeded, match="50 % of session 's' is spent") as refused:
        submit(farm, session="s")
    assert refused.value.remedies[0] == TopUp(session.id, "s", 1)
    assert AskForLess() not in refused.value.remedies, "no job is small enough"
    assert refused.value.data["missing_gpu_ms"] == 1
    sessions.top_up(farm, None, session.id, 1)
    assert submit(farm, session="s").state is JobState.QUEUED


def test_lowering_a_limit_gives_its_alerts(farm: Farm, clock: Clock) -> None:
    """A lower limit spends more of it: told at once, and taken back by raising it."""
    farm = on_plan(farm, (60, "notify"), (80, "notify"))
    job = opened(farm, times=3)
    Hand(farm, clock).work_off(900)
    watching = jobs.pause(farm, None, submit(farm, session="s").id)
    assert told(farm, watching) == lines(farm, job.session_id) == []
    spent = sessions.get(farm, None, job.session_id).spent_gpu_ms
    sessions.lower(farm, None, job.session_id, spent * 100 // 70)
    assert told(farm, watching) == [60]
    sessions.top_up(farm, None, job.session_id, 10**6)
    assert sessions.get(farm, None, job.session_id).alerted_percent == 0
    holder = submit(farm, brief(seconds=20.0), session="s")
    sessions.lower(farm, None, job.session_id, spent)  # it sinks that far when the hold is free
    assert lines(farm, job.session_id)[1:] == []
    jobs.cancel(farm, None, holder.id)
    assert told(farm, watching) == [60, 60, 80]
    assert [note.split()[0] for note in lines(farm, job.session_id)] == ["60", "60", "80"]
    assert check.violations(farm) == []


def test_every_open_job_of_a_session_is_told(farm: Farm, clock: Clock) -> None:
    """Watchers of the others hear of it too; those of ended jobs and other sessions do not."""
    farm = on_plan(farm, (1, "notify"))
    job, hand = opened(farm), Hand(farm, clock)
    beside, elsewhere = submit(farm, session="s"), submit(farm)
    ended = submit(farm, session="s")
    jobs.cancel(farm, None, ended.id)
    jobs.pause(farm, None, beside.id)
    jobs.pause(farm, None, elsewhere.id)
    order = hand.claim()
    assert order
    hand.done(order, 0)
    order = hand.claim()
    assert order
    hand.done(order, order.gpu_ms_limit, seconds=39)
    assert [told(farm, each) for each in (job, beside, ended, elsewhere)] == [[1], [1], [], []]


# --- lists of one's own -------------------------------------------------------------------


def test_a_session_may_have_alerts_of_its_own(farm: Farm, clock: Clock) -> None:
    """They replace its plan's for it, each with its action, and may be changed and given up."""
    farm = on_plan(farm, (1, "pause_all"))
    mine = account_id(farm)
    job, hand = opened(farm), Hand(farm, clock)
    own = sessions.set_alerts(farm, None, job.session_id, listed((2, "notify"), (90, "pause_new")))
    assert own.alerts == listed((2, "notify"), (90, "pause_new"))
    hand.work_off(100)
    assert jobs.get(farm, None, job.id).state is JobState.SUCCEEDED
    with pytest.raises(BudgetExceeded, match="plan tight stops all jobs") as refused:
        sessions.set_alerts(farm, None, job.session_id, None)
        submit(farm, session="s")
    assert ChangeAlerts(job.session_id, "s") in refused.value.remedies
    sessions.set_alerts(farm, None, job.session_id, ())
    assert submit(farm, session="s").state is JobState.QUEUED
    born = sessions.create(farm, account_id=mine, name="t", own_alerts=listed((1, "pause_new")))
    assert born.alerts == listed((1, "pause_new"))
    verbs = [
        audit_entry.verb for audit_entry in audit_log.listing(farm, kind="session.alerts").items
    ]
    assert len(verbs) == 3


def test_changing_alerts_gives_and_lifts_them_at_once(farm: Farm, clock: Clock) -> None:
    """A threshold that is passed already brakes from now on; one that is lifted lets jobs go on."""
    job, hand = opened(farm), Hand(farm, clock)
    for gpu_ms in (0, 2000):
        order = hand.claim()
        assert order
        hand.done(order, gpu_ms, seconds=39)
    sessions.set_alerts(farm, None, job.session_id, listed((1, "pause_all")))
    assert told(farm, job) == [1]
    assert hand.claim() is None
    assert jobs.get(farm, None, job.id).state is JobState.PAUSED
    sessions.set_alerts(farm, None, job.session_id, listed((1, "pause_new")))
    assert jobs.get(farm, None, job.id).state is JobState.QUEUED
    hand.work_off(1)
    with pytest.raises(BudgetExceeded, match="its own alerts stop new jobs"):
        submit(farm, session="s")
    assert check.violations(farm) == []


def test_an_account_may_have_alerts_of_its_own(farm: Farm, clock: Clock) -> None:
    """An operator's list replaces the plan's for the month, also for the months to come."""
    farm = on_plan(farm, (1, "pause_all"), month_gpu_ms=100_000)
    mine = account_id(farm)
    sessions.create(farm, account_id=mine, name="wide", budget_gpu_ms=10**7)
    job, hand = submit(farm, brief(seconds=8.0), session="wide"), Hand(farm, clock)
    dearly(hand)
    assert jobs.get(farm, None, job.id).state is JobState.PAUSED
    standing = accounts.set_alerts(farm, mine, listed((2, "notify"), (99, "pause_new")))
    assert standing.month.alerts == listed((2, "notify"), (99, "pause_new"))
    assert jobs.get(farm, None, job.id).state is JobState.QUEUED
    hand.work_off(1)
    assert jobs.get(farm, None, job.id).state is JobState.SUCCEEDED
    clock.advance(40 * 86_400)
    assert accounts.look(farm, mine).month.alerts == standing.month.alerts
    accounts.set_alerts(farm, mine, None)
    assert accounts.look(farm, mine).month.alerts is None
    assert len(audit_log.listing(farm, kind="account.alerts").items) == 2
    assert check.violations(farm) == []


def test_a_month_tells_new_alerts_with_its_next_settlement(farm: Farm, clock: Clock) -> None:
    """An alert of another plan or list is not lost: it is told where there is a ledger."""
    job, hand = opened(farm), Hand(farm, clock)
    for gpu_ms in (10, 500):
        order = hand.claim()
        assert order
        hand.done(order, gpu_ms)
    farm = on_plan(farm, (1, "notify"), (99, "notify"), month_gpu_ms=1)  # clamped to what is used
    hand = Hand(farm, clock, "next")
    accounts.set_alerts(farm, job.account_id, listed((1, "notify"), (2, "notify")))
    accounts.set_plan(farm, job.account_id, "tight")
    assert told(farm, job, "month") == []
    order = hand.claim()
    assert order
    hand.done(order, 1)
    assert told(farm, job, "month") == [1, 2]
    accounts.set_plan(farm, job.account_id, "unlimited")
    assert accounts.look(farm, job.account_id).month.alerted_percent == 0
    assert check.violations(farm) == []


def test_the_lowest_crossed_brake_is_the_one_to_get_under(farm: Farm, clock: Clock) -> None:
    """New jobs wait for the first threshold that stops them, however many were crossed."""
    farm = on_plan(farm, (1, "pause_new"), (2, "pause_all"), (3, "notify"))
    job, hand = opened(farm), Hand(farm, clock)
    dearly(hand)
    spent = jobs.get(farm, None, job.id).spent_gpu_ms
    with pytest.raises(BudgetExceeded, match=r"^1 % of session") as refused:
        submit(farm, session="s")
    limit = sessions.get(farm, None, job.session_id).limit_gpu_ms
    assert refused.value.data["missing_gpu_ms"] == 100 * spent + 1 - limit
    with pytest.raises(BudgetExceeded, match=r"^2 % of session"):
        jobs.resume(farm, None, job.id)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (((0, "notify"),), "0 %"),
        (((101, "notify"),), "101 %"),
        (((50, "notify"), (50, "pause_new")), "ascend"),
        (((75, "notify"), (50, "notify")), "ascend"),
        (tuple((each, "notify") for each in range(1, 22)), "at most 20"),
    ],
)
def test_a_list_that_makes_no_sense_is_refused(
    farm: Farm, given: tuple[tuple[int, str], ...], said: str
) -> None:
    """1 to 100 %, each once, ascending, twenty at most; the refusal says which rule it broke."""
    session = sessions.find(farm, account_id(farm), None)
    for refuse in (
        lambda: sessions.set_alerts(farm, None, session.id, listed(*given)),
        lambda: accounts.set_alerts(farm, session.account_id, listed(*given)),
    ):
        with pytest.raises(BadRequest, match=said) as refused:
            refuse()
        assert "50=notify" in refused.value.advice
    assert sessions.get(farm, None, session.id).alerts is None
