"""Progress and end of a job, as heartbeats and receipts tell of them."""

from itertools import pairwise

import pytest

from orchestrator.farm import Farm, jobs
from orchestrator.farm.jobs import forecasts, waiting
from orchestrator.farm.jobs.forecasts import Forecast
from orchestrator.model import Job
from orchestrator.wire import Order, RenderWork
from tests.factories import Clock, Hand, brief, submit

BEAT_SECONDS = 20.0


def look(farm: Farm, job: Job) -> Forecast:
    """Return what whoever looks at a job now is told."""
    now = jobs.get(farm, None, job.id)
    return forecasts.of_one(farm, now, waiting.reason(farm, now))


def claimed(hand: Hand) -> Order:
    """Return the next order."""
    order = hand.claim()
    assert order
    return order


def planned(farm: Farm, hand: Hand, **asked: object) -> Job:
    """Return a job whose plan is done."""
    job = submit(farm, brief(**asked))
    hand.done(claimed(hand), 5, seconds=0.01)
    return job


@pytest.mark.parametrize("times", [0.2, 1.0, 20.0])
def test_a_job_is_known_by_its_heartbeats(farm: Farm, clock: Clock, times: float) -> None:
    """Its progress moves with every beat in which a step was made, and its time left is near."""
    hand = Hand(farm, clock)
    job = planned(farm, hand, seconds=4.0, steps=100)
    step_s = job.quote.step_prior[0] * times / 1000
    encode_s = job.quote.stages[2].p50_gpu_ms * times / 1000
    batches = -(-job.frames_total // job.render_plan.micro_batch)
    whole_s = batches * 100 * step_s + encode_s
    left_s, seen, told = whole_s, [], []
    while isinstance((order := claimed(hand)).work, RenderWork):
        work, made, beats = order.work, 0, 0
        todo = -(-len(work.frames) // work.micro_batch) * work.steps
        while made < todo:
            steps = min(todo - made, max(1, round(min(whole_s / 100, BEAT_SECONDS) / step_s)))
            made, beats = made + steps, beats + 1
            clock.advance(steps * step_s)
            left_s -= steps * step_s
            took_ms = round(1000 * made * step_s)
            hand.beat(order, took_ms, sequence=beats, steps=made, worked_ms=took_ms)
            now = look(farm, job)
            seen.append(now.percent)
            assert now.left_ms is not None and now.left_p90_ms is not None
            assert now.left_p90_ms >= now.left_ms
            if left_s < 0.9 * whole_s:
                told.append((now.left_ms / 1000, left_s))
        hand.done(order, round(1000 * todo * step_s), seconds=0)
    assert seen == sorted(seen) and len(set(seen)) >= min(len(seen), 50)
    near = sum(abs(said - true) <= 0.25 * true for said, true in told)
    assert near >= 0.9 * len(told)
    rises = sum(later > before for (before, _), (later, _) in pairwise(told))
    assert rises < 0.05 * len(told)
    hand.done(order, round(1000 * encode_s), seconds=encode_s)
    assert look(farm, job) == Forecast(percent=100.0)


def test_a_step_that_was_told_is_progress(farm: Farm, clock: Clock) -> None:
    """Before the first frame, a tenth of a percent at least; more steps than there are, no more."""
    hand = Hand(farm, clock)
    job = planned(farm, hand, seconds=8.0, steps=10)
    order = claimed(hand)
    assert look(farm, job).percent == 0
    hand.beat(order, 100, sequence=1, steps=1, worked_ms=100)
    first = look(farm, job).percent
    assert first == round(95 * job.render_plan.micro_batch / 10 / job.frames_total, 1) > 0
    hand.beat(order, 100, sequence=2, steps=10**6, worked_ms=100)
    assert isinstance(order.work, RenderWork)
    most = round(95 * len(order.work.frames) / job.frames_total, 1)
    assert look(farm, job).percent == most
    hand.beat(order, 100, sequence=1, steps=0)  # an older one that comes late
    assert look(farm, job).percent == most


def test_where_nobody_can_know_nothing_is_said(farm: Farm, clock: Clock) -> None:
    """No worker, or a pause: there is no time left to tell, and the reason says why."""
    job = submit(farm, brief(seconds=8.0))
    assert look(farm, job) == Forecast(percent=0.0)
    hand = Hand(farm, clock)
    assert look(farm, job).left_ms
    jobs.pause(farm, job.account_id, job.id)
    assert look(farm, job) == Forecast(percent=0.0)
    jobs.resume(farm, job.account_id, job.id)
    hand.work_off()
    assert look(farm, job) == Forecast(percent=100.0)


def test_who_waits_behind_a_slow_unit_is_not_told_a_second(farm: Farm, clock: Clock) -> None:
    """A unit that takes longer than it should is as far from its end as its steps say."""
    hand = Hand(farm, clock)
    first = planned(farm, hand, seconds=8.0)
    order = claimed(hand)
    behind = submit(farm, brief(seconds=2.0))
    assert isinstance(order.work, RenderWork)
    todo = -(-len(order.work.frames) // order.work.micro_batch) * order.work.steps
    clock.advance(20)
    hand.beat(order, 20_000, steps=todo // 4, worked_ms=20_000)
    why = waiting.reason(farm, jobs.get(farm, None, behind.id))
    assert why and why.eta_ms and why.eta_ms >= 55_000
    left = look(farm, behind).left_ms
    assert left and left > why.eta_ms
    assert look(farm, first).left_ms
