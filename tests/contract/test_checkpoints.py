"""Units that were stopped midway: who goes on with them where, and what that costs whom."""

from dataclasses import replace

import pytest

from orchestrator.errors import BadRequest, NotFound
from orchestrator.farm import Farm, check, jobs
from orchestrator.farm.accounts import sessions
from orchestrator.farm.leases import reconcile, worker_calls
from orchestrator.model import Job, Unit
from orchestrator.states import Cause, JobState, Outcome, PauseReason, UnitKind, UnitState
from orchestrator.wire import CHECKPOINT, Order, RenderWork
from tests.factories import Clock, Hand, account_id, brief, submit


def rendering(farm: Farm, hand: Hand, **changes: object) -> tuple[Job, Order]:
    """Submit a job and return it with its first render order."""
    job = submit(farm, brief(**changes))  # type: ignore[arg-type]
    plan = hand.claim()
    assert plan
    hand.done(plan, 5)
    return job, claimed(hand)


def claimed(hand: Hand) -> Order:
    """Claim a render order that must be there."""
    order = hand.claim()
    assert order
    assert isinstance(order.work, RenderWork)
    return order


def point_of(order: Order) -> int | None:
    """Return the step at which an order goes on."""
    assert isinstance(order.work, RenderWork)
    return order.work.checkpoint.step if order.work.checkpoint else None


def stop(hand: Hand, order: Order, **facts: object) -> int:
    """Stop an order after three steps that took 300 ms and return what was charged."""
    hand.clock.advance(1)
    told = {"gpu_ms": 300, "step": 3} | facts
    return hand.complete(order, Outcome.STOPPED, **told).settled_gpu_ms  # type: ignore[arg-type]


def test_a_stopped_unit_goes_on_at_its_step_and_is_paid_once(farm: Farm, clock: Clock) -> None:
    """The steps done are charged at the stop; the next lease names the file and its step."""
    hand = Hand(farm, clock)
    job, order = rendering(farm, hand)
    assert stop(hand, order) == 300
    again = claimed(hand)
    assert isinstance(again.work, RenderWork)
    assert again.work.checkpoint
    assert again.work.checkpoint.key == f"units/{order.unit_id}/{order.fence}/{CHECKPOINT}"
    assert again.work.checkpoint.step == 3
    assert (again.unit_id, again.work.frames) == (order.unit_id, order.work.frames)  # type: ignore[union-attr]
    assert again.gpu_ms_limit <= jobs.get(farm, None, job.id).held_gpu_ms
    worker_calls.may_read(farm, hand.id, again.work.checkpoint.key)
    hand.done(again, 200)
    hand.work_off()
    ended = jobs.get(farm, None, job.id)
    assert ended.state is JobState.SUCCEEDED
    assert check.violations(farm) == []


def test_the_rest_of_a_split_unit_has_the_checkpoint(farm: Farm, clock: Clock) -> None:
    """Whole micro-batches are done; the unit of the others begins at the step reached."""
    hand = Hand(farm, clock)
    job, order = rendering(farm, hand, seconds=8.0)
    assert stop(hand, order, frames=8, gpu_ms=900, checkpoint_gpu_ms=100) == 900
    rest = next(
        view.unit
        for view in jobs.units(farm, None, job.id)
        if view.unit.first_frame == 8 and view.unit.state is UnitState.READY
    )
    assert rest.checkpoint
    assert (rest.checkpoint.step, rest.checkpoint.gpu_ms) == (3, 100)
    assert rest.checkpoint.key == f"units/{order.unit_id}/{order.fence}/{CHECKPOINT}"


def test_a_file_of_no_open_lease_is_not_read(farm: Farm, clock: Clock) -> None:
    """The checkpoint of a unit is for the worker that has the unit."""
    hand, other = Hand(farm, clock, "one"), Hand(farm, clock, "two")
    _, order = rendering(farm, hand)
    stop(hand, order)
    claimed(hand)
    with pytest.raises(NotFound):
        worker_calls.may_read(farm, other.id, f"units/{order.unit_id}/{order.fence}/{CHECKPOINT}")


def test_only_its_own_fingerprint_goes_on_and_it_is_waited_for(farm: Farm, clock: Clock) -> None:
    """While a worker of that fingerprint is active, no other one gets the unit."""
    hand = Hand(farm, clock, "one")
    other, twin = Hand(farm, clock, "other", fingerprint="g"), Hand(farm, clock, "twin")
    _, order = rendering(farm, hand, seconds=0.5)
    stop(hand, order)
    assert other.claim() is None
    assert point_of(claimed(twin)) == 3


def test_elsewhere_it_starts_again_at_the_farms_cost(farm: Farm, clock: Clock) -> None:
    """Payment for the lost steps comes off the charge of doing them again."""
    hand = Hand(farm, clock, "one")
    job, order = rendering(farm, hand)
    assert stop(hand, order) == 300
    clock.advance(1000)
    reconcile.reconcile(farm)  # the worker is gone
    other = Hand(farm, clock, "other", fingerprint="g")
    again = claimed(other)
    assert point_of(again) is None
    answer = other.done(again, 700)
    assert (answer.settled_gpu_ms, answer.lost_gpu_ms) == (400, 300)
    other.work_off()
    assert jobs.get(farm, None, job.id).state is JobState.SUCCEEDED
    assert check.violations(farm) == []


def test_steps_paid_for_are_not_paid_again_however_often_it_starts(
    farm: Farm, clock: Clock
) -> None:
    """Stopped, lost, stopped again and lost again: every step is paid once in the end."""
    hand = Hand(farm, clock, "one")
    _, order = rendering(farm, hand)
    paid = stop(hand, order)
    clock.advance(1000)
    reconcile.reconcile(farm)
    second = Hand(farm, clock, "second", fingerprint="g")
    paid += stop(second, claimed(second), gpu_ms=500)
    assert paid == 500
    clock.advance(1000)
    reconcile.reconcile(farm)
    third = Hand(farm, clock, "third", fingerprint="h")
    again = claimed(third)
    assert point_of(again) is None
    paid += third.done(again, 800).settled_gpu_ms
    assert paid == 800


def test_the_limit_of_a_redone_unit_has_what_was_paid_before(farm: Farm, clock: Clock) -> None:
    """Steps that are done again need no budget a second time."""
    hand = Hand(farm, clock, "one")
    job, order = rendering(farm, hand)
    stop(hand, order)
    clock.advance(1000)
    reconcile.reconcile(farm)
    again = claimed(Hand(farm, clock, "other", fingerprint="g"))
    lease = next(
        view.unit for view in jobs.units(farm, None, job.id) if view.unit.id == again.unit_id
    )
    assert lease.prepaid_gpu_ms == 300
    assert again.gpu_ms_limit > 300


def test_a_checkpoint_that_fails_is_not_tried_again(farm: Farm, clock: Clock) -> None:
    """A unit that failed where it went on starts anew, free of what was paid before."""
    hand = Hand(farm, clock)
    _, order = rendering(farm, hand)
    stop(hand, order)
    hand.complete(claimed(hand), Outcome.FAILED, gpu_ms=50, cause=Cause.FARM)
    again = claimed(hand)
    assert point_of(again) is None
    assert hand.done(again, 700).settled_gpu_ms == 400


def test_a_lost_worker_leaves_the_checkpoint_for_the_next(farm: Farm, clock: Clock) -> None:
    """The file is the farm's: whoever held it last may die."""
    hand = Hand(farm, clock)
    _, order = rendering(farm, hand)
    stop(hand, order)
    claimed(hand)
    clock.advance(farm.terms.lease_seconds + farm.terms.grace_seconds + 1)
    reconcile.reconcile(farm)
    assert point_of(claimed(Hand(farm, clock, "twin"))) == 3


def test_a_stop_that_kept_nothing_is_not_charged(farm: Farm, clock: Clock) -> None:
    """Without frames and without a checkpoint nobody pays, whatever was reported."""
    hand = Hand(farm, clock)
    job, order = rendering(farm, hand)
    before = jobs.get(farm, None, job.id).spent_gpu_ms
    assert stop(hand, order, step=0) == 0
    assert jobs.get(farm, None, job.id).spent_gpu_ms == before


def test_a_cancelled_unit_is_charged_for_its_steps(farm: Farm, clock: Clock) -> None:
    """Its owner ended it; what was done until then was done as asked."""
    hand = Hand(farm, clock)
    job, order = rendering(farm, hand)
    jobs.cancel(farm, None, job.id)
    assert stop(hand, order, step=0) == 300
    assert jobs.get(farm, None, job.id).state is JobState.CANCELLED
    assert check.violations(farm) == []


def test_a_checkpoint_without_its_file_is_refused(farm: Farm, clock: Clock) -> None:
    """And so is one of a unit that is done, or that renders nothing."""
    hand = Hand(farm, clock)
    _, order = rendering(farm, hand)
    with pytest.raises(BadRequest, match="checkpoint"):
        hand.complete(order, Outcome.DONE, step=2)
    with pytest.raises(BadRequest, match="lacks checkpoint"):
        hand.complete(order, Outcome.STOPPED, checkpoint_step=2, artifacts=())


def test_a_top_up_goes_on_at_the_step(farm: Farm, clock: Clock) -> None:
    """The budget runs out within a micro-batch: the job waits, and a top-up takes it up there."""
    hand = Hand(farm, clock)
    home = sessions.create(farm, account_id=account_id(farm), name="small", budget_gpu_ms=1)
    quote = jobs.estimate(
        farm, account_id=account_id(farm), session_id=None, brief=brief(seconds=0.5)
    ).quote
    sessions.top_up(farm, None, home.id, quote.p90_gpu_ms)
    job = submit(farm, brief(seconds=0.5), session="small")
    hand.done(claimed_any(hand), 5)
    order = claimed(hand)
    stop(hand, order, gpu_ms=order.gpu_ms_limit, message="limit")
    assert hand.claim() is None
    waiting = jobs.get(farm, None, job.id)
    assert (waiting.state, waiting.pause_reason) == (JobState.PAUSED, PauseReason.BUDGET)
    assert waiting.held_gpu_ms == 0
    sessions.top_up(farm, None, home.id, 60_000)
    assert point_of(claimed(hand)) == 3


def claimed_any(hand: Hand) -> Order:
    """Claim an order of any kind."""
    order = hand.claim()
    assert order
    return order


def test_a_split_at_a_checkpoint_counts_no_frame_twice(farm: Farm, clock: Clock) -> None:
    """Stopped again and again, each time with some frames and a step: I10 holds to the end."""
    hand = Hand(farm, clock)
    job, order = rendering(farm, hand, seconds=8.0)
    for _ in range(3):
        stop(hand, order, frames=4, checkpoint_gpu_ms=10)
        order = claimed(hand)
        assert check.violations(farm) == []
    hand.done(order)
    hand.work_off()
    ended = jobs.get(farm, None, job.id)
    assert ended.state is JobState.SUCCEEDED
    done = [v.unit for v in jobs.units(farm, None, job.id) if v.unit.kind is UnitKind.RENDER]
    assert all(unit == replace(unit, checkpoint=None) for unit in done)


def test_a_unit_slower_than_thought_is_given_more_the_next_time(farm: Farm, clock: Clock) -> None:
    """A limit of its p90 and more was too low: the next lease is for what is left at that pace."""
    hand = Hand(farm, clock)
    _, order = rendering(farm, hand, seconds=8.0)
    clock.advance(30)
    hand.complete(order, Outcome.STOPPED, gpu_ms=order.gpu_ms_limit, step=3, message="limit")
    again = claimed(hand)
    assert again.unit_id == order.unit_id
    rest = unit_of(farm, order)
    assert again.gpu_ms_limit >= rest.p90_gpu_ms
    assert rest.p50_gpu_ms >= order.gpu_ms_limit * (steps_of(order) - 3) / 3


@pytest.mark.parametrize("times", [0.2, 1, 20])
@pytest.mark.parametrize("message", ["limit", "paused"])
def test_what_is_left_of_a_job_is_reckoned_at_the_pace_that_was_seen(
    farm: Farm, clock: Clock, times: float, message: str
) -> None:
    """Both ways, whatever stopped the unit, and of the units that nobody has begun too."""
    hand = Hand(farm, clock)
    job, order = rendering(farm, hand, seconds=30.0)
    step_ms, decode_ms = job.quote.step_prior
    took = round(3 * step_ms * times)
    clock.advance(took / 1000)
    hand.complete(order, Outcome.STOPPED, gpu_ms=took, step=3, message=message)
    other = next(
        view.unit
        for view in jobs.units(farm, None, job.id)
        if view.unit.kind is UnitKind.RENDER and view.unit.id != order.unit_id
    )
    for unit, begun in ((unit_of(farm, order), 3), (other, 0)):
        batches = -(-unit.frames // order.work.micro_batch)
        left = (batches * order.work.steps - begun) * step_ms + batches * decode_ms
        assert unit.p50_gpu_ms == pytest.approx(left * times, rel=0.01)
        assert 1.15 <= unit.p90_gpu_ms / unit.p50_gpu_ms <= 1.6


def test_frames_that_a_slow_device_left_are_expected_to_take_as_long_as_those_before(
    farm: Farm, clock: Clock
) -> None:
    """The frames that it kept say what the rest of them takes."""
    hand = Hand(farm, clock)
    job, order = rendering(farm, hand, seconds=8.0)
    unit = unit_of(farm, order)
    clock.advance(30)
    kept = unit.frames // 2
    hand.complete(order, Outcome.STOPPED, gpu_ms=order.gpu_ms_limit, frames=kept, message="limit")
    rest = next(
        view.unit
        for view in jobs.units(farm, None, job.id)
        if view.unit.first_frame == unit.indices[kept]
    )
    assert rest.p50_gpu_ms == pytest.approx(order.gpu_ms_limit, rel=0.01)


def test_a_worker_that_knew_it_was_too_slow_says_how_slow(farm: Farm, clock: Clock) -> None:
    """It began no step, since none fits: the next lease has room for two, without guessing."""
    hand = Hand(farm, clock)
    _, order = rendering(farm, hand, seconds=8.0)
    clock.advance(30)
    step_ms = order.gpu_ms_limit
    hand.complete(
        order, Outcome.STOPPED, gpu_ms=0, message="limit", by_stage={}, next_step_gpu_ms=step_ms
    )
    assert 2 * step_ms < unit_of(farm, order).minimum_gpu_ms < 4 * step_ms


def steps_of(order: Order) -> int:
    """Return all steps of a render order."""
    assert isinstance(order.work, RenderWork)
    return -(-len(order.work.frames) // order.work.micro_batch) * order.work.steps


def unit_of(farm: Farm, order: Order) -> Unit:
    """Return an order's unit as it is now."""
    with farm.store.read() as tx:
        unit = tx.get(Unit, order.unit_id)
    assert unit
    return unit
