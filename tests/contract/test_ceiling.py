"""Quotes that hold: a job is charged its ceiling at most, and what fits is what ends."""

from dataclasses import replace

import pytest

from orchestrator.errors import BudgetExceeded
from orchestrator.farm import Farm, check, jobs
from orchestrator.farm.accounts import sessions
from orchestrator.farm.books import economics, receipts
from orchestrator.model import Entry, Job, Unit
from orchestrator.states import EntryKind, JobState, OnExhausted, Outcome, Pricing, UnitKind
from orchestrator.store import Store
from orchestrator.wire import LIMIT
from tests.factories import Clock, Hand, account_id, brief, make_farm, plans_with, submit


@pytest.fixture
def farm(store: Store, clock: Clock) -> Farm:
    """A farm whose plans have quotes that hold."""
    return make_farm(store, clock, price=Pricing.CEILING, lease_seconds=10_000.0)


def work_slowly(hand: Hand, *, most: int = 200) -> None:
    """Run every lease to its limit: a render unit keeps a frame each time, others are done."""
    for _ in range(most):
        order = hand.claim()
        if order is None:
            return
        hand.clock.advance(order.gpu_ms_limit / 1000 + 1)
        if order.work.kind is not UnitKind.RENDER or len(order.work.frames) == 1:
            hand.complete(order, Outcome.DONE, gpu_ms=order.gpu_ms_limit)
            continue
        hand.complete(order, Outcome.STOPPED, gpu_ms=order.gpu_ms_limit, frames=1, message=LIMIT)
    raise AssertionError("it never ended")


def entries(farm: Farm, job: Job, kind: EntryKind) -> list[Entry]:
    """Return a job's entries of a kind."""
    with farm.store.read() as tx:
        return tx.find(Entry, job_id=job.id, kind=kind)


def test_a_job_holds_its_ceiling_from_the_start(farm: Farm) -> None:
    """The hold is the quote's ceiling, which is more than its p90, and the job says so."""
    job = submit(farm)
    assert job.held_gpu_ms == job.ceiling_gpu_ms == job.quote.ceiling_gpu_ms
    assert job.quote.p50_gpu_ms < job.quote.p90_gpu_ms < job.quote.ceiling_gpu_ms
    assert job.runaway_gpu_ms == 4 * job.quote.ceiling_gpu_ms


def test_what_fits_is_what_ends(farm: Farm, clock: Clock) -> None:
    """A session of just the ceiling is enough, although the work takes twice as long."""
    quote = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=brief()).quote
    exact = quote.ceiling_gpu_ms
    sessions.create(farm, account_id=account_id(farm), name="exact", budget_gpu_ms=exact)
    job = submit(farm, session="exact")
    hand = Hand(farm, clock)
    while order := hand.claim():
        took = 2 * quote.p90_gpu_ms if order.work.kind is UnitKind.RENDER else 10
        hand.done(order, min(took, order.gpu_ms_limit), seconds=took / 1000 + 1)
    ended = jobs.get(farm, None, job.id)
    assert ended.state is JobState.SUCCEEDED
    assert ended.spent_gpu_ms <= exact < ended.spent_gpu_ms + ended.over_quote_gpu_ms
    assert entries(farm, job, EntryKind.EXTEND) == []
    assert check.violations(farm) == []
    bill = receipts.receipt(farm, None, job.id)
    assert {"why": "over quote", "gpu_ms": ended.over_quote_gpu_ms} in bill["not_charged"]


def test_less_than_the_ceiling_is_refused(farm: Farm) -> None:
    """A session that has a millisecond less is told how much the job holds; nothing is written."""
    quote = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=brief()).quote
    less = quote.ceiling_gpu_ms - 1
    sessions.create(farm, account_id=account_id(farm), name="less", budget_gpu_ms=less)
    with pytest.raises(BudgetExceeded) as refused:
        submit(farm, session="less")
    assert refused.value.data["needed_gpu_ms"] == quote.ceiling_gpu_ms
    assert refused.value.data["missing_gpu_ms"] == 1
    assert jobs.listing(farm, None).items == ()


def test_the_encode_reserve_stays_for_the_video(farm: Farm, clock: Clock) -> None:
    """However long the frames took, the session pays for encoding them out of the reserve."""
    job = submit(farm)
    hand = Hand(farm, clock)
    while order := hand.claim():
        ms = order.gpu_ms_limit if order.work.kind is UnitKind.RENDER else 7
        hand.done(order, ms, seconds=ms / 1000 + 1)
    (encode,) = [
        line for line in receipts.receipt(farm, None, job.id)["lines"] if line["kind"] == "encode"
    ]
    assert encode["gpu_ms"] == 7
    assert check.violations(farm) == []


@pytest.mark.parametrize("wish", [OnExhausted.PAUSE, OnExhausted.CANCEL])
def test_a_job_that_runs_away_is_ended_for_nothing(
    farm: Farm, clock: Clock, wish: OnExhausted
) -> None:
    """After four times its ceiling it fails, and what it was charged is given back."""
    job = submit(farm, brief(seconds=30.0, on_exhausted=wish))
    work_slowly(Hand(farm, clock))
    ended = jobs.get(farm, None, job.id)
    assert ended.error
    assert (ended.state, ended.error.code) == (JobState.FAILED, "ran_away")
    assert (ended.spent_gpu_ms, ended.held_gpu_ms) == (0, 0)
    assert 0 < ended.refunded_gpu_ms <= job.quote.ceiling_gpu_ms
    assert check.violations(farm) == []


def test_a_job_that_runs_away_leaves_the_video_it_wished_for(farm: Farm, clock: Clock) -> None:
    """With `finish` it ends with its finished frames, and nobody pays for them."""
    job = submit(farm, brief(seconds=30.0, on_exhausted=OnExhausted.FINISH))
    hand = Hand(farm, clock)
    work_slowly(hand)
    hand.work_off(5)  # the encode unit, which came about when no render unit could go on
    ended = jobs.get(farm, None, job.id)
    assert (ended.state, ended.truncated, ended.ran_away) == (JobState.SUCCEEDED, True, True)
    assert "video" in ended.artifacts
    assert (ended.spent_gpu_ms, ended.held_gpu_ms) == (0, 0)
    assert check.violations(farm) == []


def test_a_paused_job_goes_on_when_the_rest_of_its_ceiling_is_there(
    farm: Farm, clock: Clock
) -> None:
    """The hold goes back while it is paused; it goes on with all of the rest, or not."""
    quote = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=brief()).quote
    tight = sessions.create(
        farm, account_id=account_id(farm), name="tight", budget_gpu_ms=quote.ceiling_gpu_ms
    )
    job = submit(farm, session="tight")
    hand = Hand(farm, clock)
    order = hand.claim()
    assert order
    hand.done(order, 10)
    jobs.pause(farm, None, job.id)
    sessions.lower(farm, None, tight.id, quote.ceiling_gpu_ms - 1)
    with pytest.raises(BudgetExceeded, match="The rest of it holds"):
        jobs.resume(farm, None, job.id)
    sessions.top_up(farm, None, tight.id, 1)
    jobs.resume(farm, None, job.id)
    again = jobs.get(farm, None, job.id)
    assert again.held_gpu_ms + again.spent_gpu_ms == quote.ceiling_gpu_ms
    hand.work_off(10)
    assert jobs.get(farm, None, job.id).state is JobState.SUCCEEDED
    assert check.violations(farm) == []


def test_a_video_that_is_cut_off_never_holds_more_than_the_ceiling(
    farm: Farm, clock: Clock
) -> None:
    """It is so slow that encoding it is likely to need more than all of it was quoted.

    It goes on with what is left of its ceiling; what it needs beyond that, the farm pays.
    """
    job = submit(farm)
    hand = Hand(farm, clock)
    order = hand.claim()
    assert order
    hand.done(order, 10)
    order = hand.claim()
    assert order
    clock.advance(order.gpu_ms_limit / 1000 + 1)
    hand.complete(order, Outcome.STOPPED, gpu_ms=order.gpu_ms_limit, frames=1, message=LIMIT)
    jobs.pause(farm, None, job.id)
    jobs.finish(farm, None, job.id)
    with farm.store.read() as tx:
        (encode,) = tx.find(Unit, job_id=job.id, kind=UnitKind.ENCODE)
    assert encode.p90_gpu_ms > job.quote.ceiling_gpu_ms, "else nothing is tried here"
    jobs.pause(farm, None, job.id)
    jobs.resume(farm, None, job.id)
    again = jobs.get(farm, None, job.id)
    assert again.held_gpu_ms + again.spent_gpu_ms == job.quote.ceiling_gpu_ms
    hand.work_off(10)
    ended = jobs.get(farm, None, job.id)
    assert (ended.state, ended.truncated) == (JobState.SUCCEEDED, True)
    assert check.violations(farm) == []


def test_a_cap_under_the_ceiling_is_metered(farm: Farm) -> None:
    """`max_gpu_seconds` under the ceiling is kept to the millisecond, by stopping; above, not."""
    quote = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=brief()).quote
    under = submit(farm, brief(max_gpu_ms=quote.ceiling_gpu_ms - 1))
    assert under.ceiling_gpu_ms is under.runaway_gpu_ms is None
    assert under.held_gpu_ms == quote.p90_gpu_ms
    above = submit(farm, brief(max_gpu_ms=quote.ceiling_gpu_ms))
    assert above.ceiling_gpu_ms == above.held_gpu_ms == quote.ceiling_gpu_ms


def test_a_metered_plan_holds_the_p90_and_grows(farm: Farm, clock: Clock) -> None:
    """A plan that says `metered` holds the p90, and charges what was measured."""
    metered = replace(farm, plans=plans_with(Pricing.METERED))
    job = submit(metered)
    assert (job.held_gpu_ms, job.ceiling_gpu_ms) == (job.quote.p90_gpu_ms, None)
    hand = Hand(metered, clock)
    while order := hand.claim():
        hand.done(order, order.gpu_ms_limit, seconds=order.gpu_ms_limit / 1000 + 1)
    ended = jobs.get(metered, None, job.id)
    assert ended.spent_gpu_ms > job.quote.ceiling_gpu_ms
    assert ended.over_quote_gpu_ms == 0
    assert entries(metered, job, EntryKind.EXTEND)
    assert check.violations(metered) == []


def test_a_job_keeps_the_price_of_its_submission(farm: Farm, clock: Clock) -> None:
    """A plan that becomes metered changes nothing for a job that has its ceiling."""
    job = submit(farm)
    metered = replace(farm, plans=plans_with(Pricing.METERED))
    hand = Hand(metered, clock)
    while order := hand.claim():
        hand.done(order, order.gpu_ms_limit, seconds=order.gpu_ms_limit / 1000 + 1)
    ended = jobs.get(metered, None, job.id)
    assert ended.spent_gpu_ms <= job.quote.ceiling_gpu_ms
    assert check.violations(metered) == []


def test_the_operator_sees_where_quotes_are_bad(farm: Farm, clock: Clock) -> None:
    """The books name the time over quotes by model and device class, and what it cost."""
    job = submit(farm)
    hand = Hand(farm, clock)
    while order := hand.claim():
        hand.done(order, order.gpu_ms_limit, seconds=order.gpu_ms_limit / 1000 + 1)
    ended = jobs.get(farm, None, job.id)
    assert ended.over_quote_gpu_ms
    (row,) = economics.economics(farm, "model", 0)["quotes"]
    assert (row["model"], row["device_class"]) == ("fake", "cpu")
    assert (row["gpu_ms"], row["over_quote_gpu_ms"]) == (
        ended.spent_gpu_ms,
        ended.over_quote_gpu_ms,
    )
    assert row["over_quote_cost_microusd"] > 0
