"""Jobs whose budget runs out before they are done."""

from dataclasses import replace

import pytest

from orchestrator.errors import BudgetExceeded
from orchestrator.farm import Farm, check, jobs
from orchestrator.farm.accounts import sessions
from orchestrator.model import Job
from orchestrator.states import JobState, OnExhausted, Outcome, PauseReason, UnitKind, UnitState
from orchestrator.wire import EncodeWork, RenderWork
from tests.factories import Clock, Hand, account_id, brief, submit


def short_of_budget(farm: Farm, hand: Hand, intent: OnExhausted, *, units: int) -> Job:
    """Return a job whose session is empty after its plan and so many render units."""
    asked = brief(seconds=8.0, on_exhausted=intent)
    estimate = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=asked)
    sessions.create(
        farm,
        account_id=account_id(farm),
        name="small",
        budget_gpu_ms=estimate.quote.p90_gpu_ms,
    )
    job = submit(farm, asked, session="small")
    plan = hand.claim()
    assert plan
    hand.done(plan, 5)
    for _ in range(units):
        order = hand.claim()
        assert order
        hand.done(order, 100)
    while (order := hand.claim()) and isinstance(order.work, RenderWork):
        hand.done(order, order.gpu_ms_limit, seconds=39)
    if order:  # the encode unit, to be claimed again
        hand.release(order)
    return jobs.get(farm, None, job.id)


def test_a_job_waits_for_a_top_up_unless_it_was_told_otherwise(farm: Farm, clock: Clock) -> None:
    """It pauses with its frames and the encode reserve, and a top-up lets it end whole."""
    hand = Hand(farm, clock)
    job = short_of_budget(farm, hand, OnExhausted.PAUSE, units=2)
    assert (job.state, job.pause_reason) == (JobState.PAUSED, PauseReason.BUDGET)
    assert job.held_gpu_ms == job.encode_reserve_gpu_ms
    sessions.top_up(farm, None, job.session_id, 10**6)
    hand.work_off()
    job = jobs.get(farm, None, job.id)
    assert (job.state, job.truncated) == (JobState.SUCCEEDED, False)
    assert job.frames_done == job.frames_total


def test_a_job_may_end_with_what_is_finished(farm: Farm, clock: Clock) -> None:
    """No more is rendered, the reserve pays for the video, and the answer says that it was cut."""
    hand = Hand(farm, clock)
    job = short_of_budget(farm, hand, OnExhausted.FINISH, units=2)
    assert (job.state, job.truncated) == (JobState.ENCODING, True)
    order = hand.claim()
    assert order
    assert isinstance(order.work, EncodeWork)
    assert sum(part.frames for part in order.work.inputs) == job.frames_done
    assert order.work.frames_total == job.frames_total > job.frames_done
    hand.done(order, 50)
    job = jobs.get(farm, None, job.id)
    assert (job.state, job.truncated, job.held_gpu_ms) == (JobState.SUCCEEDED, True, 0)
    assert job.artifacts["video"]
    states = {v.unit.state for v in jobs.units(farm, None, job.id)}
    assert states == {UnitState.DONE, UnitState.DROPPED}
    assert check.violations(farm) == []


def test_without_a_finished_frame_there_is_nothing_to_end_with(farm: Farm, clock: Clock) -> None:
    """A job that was to finish waits for a top-up while it has no frame."""
    hand = Hand(farm, clock)
    asked = brief(seconds=8.0, on_exhausted=OnExhausted.FINISH)
    quote = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=asked).quote
    job = submit(farm, replace(asked, max_gpu_ms=quote.p50_gpu_ms))
    plan = hand.claim()
    assert plan
    hand.done(plan, plan.gpu_ms_limit, seconds=10)
    order = hand.claim()
    assert order
    hand.complete(order, Outcome.STOPPED, gpu_ms=0, message="limit")
    for _ in range(20):
        order = hand.claim()
        if order is None:
            break
        hand.complete(order, Outcome.STOPPED, gpu_ms=0, message="limit")
    job = jobs.get(farm, None, job.id)
    assert (job.state, job.pause_reason) == (JobState.PAUSED, PauseReason.BUDGET)


def test_a_job_may_be_cancelled_by_its_empty_budget(farm: Farm, clock: Clock) -> None:
    """It ends by itself, says why, and gives back what it held."""
    hand = Hand(farm, clock)
    job = short_of_budget(farm, hand, OnExhausted.CANCEL, units=2)
    assert (job.state, job.held_gpu_ms) == (JobState.CANCELLED, 0)
    assert job.error
    assert "may spend ran out" in job.error.message
    assert check.violations(farm) == []


@pytest.mark.parametrize("intent", list(OnExhausted))
def test_with_enough_budget_all_three_are_the_same_video(
    farm: Farm, clock: Clock, intent: OnExhausted
) -> None:
    """Every frame once, however they were cut into batches."""
    hand = Hand(farm, clock)
    job = submit(farm, brief(seconds=8.0, on_exhausted=intent))
    hand.work_off()
    job = jobs.get(farm, None, job.id)
    assert (job.state, job.truncated) == (JobState.SUCCEEDED, False)
    assert check.violations(farm) == []


def test_key_frames_come_first_where_a_job_may_be_cut_off(farm: Farm, clock: Clock) -> None:
    """Every fourth frame of the whole story, then those between, whatever the bell rings for."""
    hand = Hand(farm, clock)
    job = submit(farm, brief(seconds=20.0, on_exhausted=OnExhausted.FINISH))
    passes = []
    while order := hand.claim():
        if isinstance(order.work, RenderWork):
            first, second, *_ = indices = [frame.index for frame in order.work.frames]
            stride = second - first
            passes.append((stride, first % stride))
            assert indices == list(range(first, first + len(indices) * stride, stride))
        hand.done(order)
    assert list(dict.fromkeys(passes)) == [(4, 0), (4, 2), (2, 1)]
    assert passes == sorted(passes, key=[(4, 0), (4, 2), (2, 1)].index)
    assert jobs.get(farm, None, job.id).state is JobState.SUCCEEDED


def test_a_unit_of_key_frames_is_split_between_its_own(farm: Farm, clock: Clock) -> None:
    """Stopped after a micro-batch, the rest goes on with the next frame of the pass."""
    hand = Hand(farm, clock)
    job = submit(farm, brief(seconds=8.0, on_exhausted=OnExhausted.FINISH))
    plan = hand.claim()
    assert plan
    hand.done(plan, 5)
    order = hand.claim()
    assert order
    clock.advance(1)
    hand.complete(order, Outcome.STOPPED, frames=8)
    rest = [v.unit for v in jobs.units(farm, None, job.id) if v.unit.first_frame == 32]
    assert [(unit.kind, unit.stride) for unit in rest] == [(UnitKind.RENDER, 4)]
    hand.work_off()
    assert check.violations(farm) == []


def test_a_video_cut_short_on_purpose_starts_with_less_than_its_p50(
    farm: Farm, clock: Clock
) -> None:
    """With `finish` the cap need only pay for the shortest video, which the quote names."""
    asked = brief(seconds=8.0, steps=40, on_exhausted=OnExhausted.FINISH)
    quote = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=asked).quote
    least = quote.least_gpu_ms
    assert least < quote.p50_gpu_ms
    with pytest.raises(BudgetExceeded, match="shortest video") as refused:
        submit(farm, replace(asked, max_gpu_ms=least - 1))
    assert refused.value.data["needed_gpu_ms"] == least
    whole = replace(asked, max_gpu_ms=least, on_exhausted=OnExhausted.PAUSE)
    with pytest.raises(BudgetExceeded, match="likely needs"):
        submit(farm, whole)
    job = submit(farm, replace(asked, max_gpu_ms=least))
    hand = Hand(farm, clock)
    while order := hand.claim():
        work = order.work
        if isinstance(work, RenderWork) and len(work.frames) > work.micro_batch:
            clock.advance(39)  # a micro-batch is what the limit lets a worker do
            report = {"gpu_ms": order.gpu_ms_limit, "frames": work.micro_batch}
            hand.complete(order, Outcome.STOPPED, message="limit", **report)
        else:
            rendered = isinstance(work, RenderWork)
            hand.done(order, order.gpu_ms_limit if rendered else 5, seconds=39)
    hand.work_off(5)  # the claim that found no budget made the encode unit
    job = jobs.get(farm, None, job.id)
    assert (job.state, job.truncated) == (JobState.SUCCEEDED, True)
    assert 0 < job.frames_done < job.frames_total
    assert job.spent_gpu_ms <= least
    assert check.violations(farm) == []
