"""A paused job that its owner ends with what is finished (SQLite and Postgres)."""

from dataclasses import replace

import pytest

from orchestrator.errors import BudgetExceeded, Conflict
from orchestrator.farm import Farm, check, jobs, webhook_queue
from orchestrator.farm.accounts import sessions
from orchestrator.farm.jobs import waiting
from orchestrator.farm.kernel import audit_log
from orchestrator.model import Delivery, Job
from orchestrator.remedies import Cancel, FinishEarly, Pause, Rerun, Resume
from orchestrator.states import JobState, OnExhausted, PauseReason, UnitKind, UnitState
from orchestrator.wire import EncodeWork, RenderWork
from tests.factories import Clock, Hand, account_id, brief, submit


def begun(farm: Farm, hand: Hand, *, units: int, cap_gpu_ms: int | None = None) -> Job:
    """Return a job that its owner paused after its plan and so many render units."""
    job = submit(farm, brief(seconds=8.0, max_gpu_ms=cap_gpu_ms))
    for _ in range(units + 1):
        order = hand.claim()
        assert order
        hand.done(order, 50)
    return jobs.pause(farm, None, job.id)


def test_a_paused_job_becomes_a_video_of_what_is_finished(farm: Farm, clock: Clock) -> None:
    """Its reserve pays, no frame more is painted, it says that it was cut, and nothing is held."""
    hand = Hand(farm, clock)
    job = begun(farm, hand, units=2)
    webhook_queue.create(farm, account_id=job.account_id, url="https://hooks.example.com/")
    ending = jobs.finish(farm, None, job.id)
    assert (ending.state, ending.truncated, ending.pause_reason) == (JobState.ENCODING, True, None)
    assert ending.held_gpu_ms == job.encode_reserve_gpu_ms
    order = hand.claim()
    assert order and isinstance(order.work, EncodeWork)
    assert sum(part.frames for part in order.work.inputs) == job.frames_done
    hand.done(order, 10)
    done = jobs.get(farm, None, job.id)
    assert (done.state, done.truncated, done.held_gpu_ms) == (JobState.SUCCEEDED, True, 0)
    assert 0 < done.frames_done < done.frames_total and done.artifacts["video"]
    states = {view.unit.state for view in jobs.units(farm, None, job.id)}
    assert states == {UnitState.DONE, UnitState.DROPPED}
    with farm.store.read() as tx:
        assert [m.kind for m in tx.find(Delivery)] == ["job.encoding", "job.succeeded"]
    told = [e.data["state"] for e in jobs.events(farm, (job.id,), after=0) if e.kind == "state"]
    assert told[-3:] == ["paused", "encoding", "succeeded"]
    assert check.violations(farm) == []


def test_a_job_stopped_by_its_own_cap_can_be_finished(farm: Farm, clock: Clock) -> None:
    """If no top-up helps, the wait and the refusal name what does, and it gives a video."""
    asked = brief(seconds=8.0)
    quote = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=asked).quote
    job = submit(farm, replace(asked, max_gpu_ms=quote.p50_gpu_ms))
    hand = Hand(farm, clock)
    while order := hand.claim():
        kept = not isinstance(order.work, RenderWork)
        hand.done(order, 5 if kept else order.gpu_ms_limit, seconds=39)
    job = jobs.get(farm, None, job.id)
    assert (job.state, job.pause_reason) == (JobState.PAUSED, PauseReason.BUDGET)
    assert job.frames_done
    waits = waiting.reason(farm, job)
    assert waits and FinishEarly(job.id, job.frames_done) in waits.remedies
    with pytest.raises(BudgetExceeded, match="max_gpu_seconds") as refused:
        jobs.resume(farm, None, job.id)
    assert FinishEarly(job.id, job.frames_done) in refused.value.remedies
    jobs.finish(farm, None, job.id)
    hand.work_off(5)
    done = jobs.get(farm, None, job.id)
    assert (done.state, done.truncated, done.held_gpu_ms) == (JobState.SUCCEEDED, True, 0)
    assert done.spent_gpu_ms <= quote.p50_gpu_ms
    assert check.violations(farm) == []


def test_finishing_twice_is_finishing_once(farm: Farm, clock: Clock) -> None:
    """A second call answers with the job as it is, before and after its video is there."""
    hand = Hand(farm, clock)
    job = begun(farm, hand, units=1)
    first = jobs.finish(farm, None, job.id)
    assert jobs.finish(farm, None, job.id) == first
    hand.work_off(5)
    done = jobs.get(farm, None, job.id)
    assert jobs.finish(farm, None, job.id) == done
    kinds = [view.unit.kind for view in jobs.units(farm, None, job.id)]
    assert kinds.count(UnitKind.ENCODE) == 1
    assert [
        audit_entry.verb for audit_entry in audit_log.listing(farm, kind="job.finish").items
    ] == ["job.finish"]


def test_only_a_paused_job_with_a_frame_can_be_finished(farm: Farm, clock: Clock) -> None:
    """The refusal says what is in the way and what to do, and changes nothing."""
    job = submit(farm)
    with pytest.raises(Conflict, match="this one is queued") as refused:
        jobs.finish(farm, None, job.id)
    assert refused.value.remedies == (Pause(job.id),)
    jobs.pause(farm, None, job.id)
    with pytest.raises(Conflict, match="no finished frame") as refused:
        jobs.finish(farm, None, job.id)
    assert refused.value.remedies == (Resume(job.id), Cancel(job.id))
    assert jobs.get(farm, None, job.id).state is JobState.PAUSED
    jobs.cancel(farm, None, job.id)
    with pytest.raises(Conflict, match="this one is cancelled") as refused:
        jobs.finish(farm, None, job.id)
    assert refused.value.remedies == (Rerun(job.id),)


def test_a_job_with_all_its_frames_is_finished_whole(farm: Farm, clock: Clock) -> None:
    """Paused before its video was made, it goes on to it and was not cut off."""
    hand = Hand(farm, clock)
    job = submit(farm)
    while (order := hand.claim()) and not isinstance(order.work, EncodeWork):
        hand.done(order, 5)
    assert order
    hand.release(order)
    jobs.pause(farm, None, job.id)
    jobs.finish(farm, None, job.id)
    hand.work_off(5)
    done = jobs.get(farm, None, job.id)
    assert (done.state, done.truncated) == (JobState.SUCCEEDED, False)
    assert check.violations(farm) == []


def test_a_finished_job_paused_again_goes_on_to_its_video(farm: Farm, clock: Clock) -> None:
    """Whoever pauses it while it waits to be encoded can finish or resume it as before."""
    hand = Hand(farm, clock)
    for verb in (jobs.finish, jobs.resume):
        job = begun(farm, hand, units=1)
        jobs.finish(farm, None, job.id)
        jobs.pause(farm, None, job.id)
        verb(farm, None, job.id)
        hand.work_off(5)
        done = jobs.get(farm, None, job.id)
        assert (done.state, done.truncated) == (JobState.SUCCEEDED, True)
    assert check.violations(farm) == []


def test_a_closed_session_still_makes_the_video(farm: Farm, clock: Clock) -> None:
    """The reserve is enough: the session need give nothing more."""
    hand = Hand(farm, clock)
    job = begun(farm, hand, units=1)
    sessions.close(farm, None, job.session_id)
    waits = waiting.reason(farm, jobs.get(farm, None, job.id))
    assert waits and FinishEarly(job.id, job.frames_done) in waits.remedies
    jobs.finish(farm, None, job.id)
    hand.work_off(10**6)
    assert jobs.get(farm, None, job.id).state is JobState.SUCCEEDED


def test_an_operators_finish_is_written_down(farm: Farm, clock: Clock) -> None:
    """The owner's own leaves no line, as with pausing and cancelling."""
    hand = Hand(farm, clock)
    for scope, lines in ((account_id(farm), 0), (None, 1)):
        job = begun(farm, hand, units=1)
        jobs.finish(farm, scope, job.id)
        hand.work_off(5)
        assert len(audit_log.listing(farm, kind="job.finish").items) == lines


@pytest.mark.parametrize("intent", list(OnExhausted))
def test_any_paused_job_can_be_finished(farm: Farm, clock: Clock, intent: OnExhausted) -> None:
    """Whatever it was to do when its budget runs out; with `finish` it shows the whole story."""
    hand = Hand(farm, clock)
    job = submit(farm, brief(seconds=8.0, on_exhausted=intent))
    for _ in range(2):
        order = hand.claim()
        assert order
        hand.done(order, 50)
    jobs.pause(farm, None, job.id)
    jobs.finish(farm, None, job.id)
    order = hand.claim()
    assert order and isinstance(order.work, EncodeWork)
    assert {part.stride for part in order.work.inputs} == {4 if intent is OnExhausted.FINISH else 1}
    hand.done(order, 5)
    assert jobs.get(farm, None, job.id).truncated
    assert check.violations(farm) == []
