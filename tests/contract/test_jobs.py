"""A job's life through the farm's verbs, the same on SQLite and on Postgres."""

import pytest

from orchestrator.errors import BudgetExceeded, Conflict, IdempotencyMismatch, NotFound
from orchestrator.farm import Farm, Idempotency, check, jobs
from orchestrator.farm.accounts import accounts, sessions
from orchestrator.farm.books import receipts
from orchestrator.farm.jobs import deleting, pictures
from orchestrator.farm.kernel.where import JobsWanted
from orchestrator.states import JobState, Outcome, PauseReason, UnitKind, UnitState
from tests.factories import Clock, Hand, account_id, brief, submit, with_painter


def test_a_job_goes_from_prompt_to_video(farm: Farm, clock: Clock) -> None:
    """Plan, render and encode units follow each other, and the bill is their sum."""
    job = submit(farm)
    assert job.state is JobState.QUEUED
    assert job.held_gpu_ms > 0
    hand = Hand(farm, clock)
    count = hand.work_off(gpu_ms=7)
    ended = jobs.get(farm, None, job.id)
    assert ended.state is JobState.SUCCEEDED
    assert ended.frames_done == ended.frames_total
    assert set(ended.artifacts) == {"video", "poster", "sheet"}
    assert ended.spent_gpu_ms == 7 * count
    assert ended.held_gpu_ms == 0
    session = sessions.find(farm, account_id(farm), None)
    assert (session.held_gpu_ms, session.spent_gpu_ms) == (0, 7 * count)
    assert check.violations(farm) == []


def test_watchers_are_told_every_state_in_order(farm: Farm, clock: Clock) -> None:
    """The event log of a job tells its states once each, in the order of its life."""
    job = submit(farm)
    Hand(farm, clock).work_off()
    told = [e.data["state"] for e in jobs.events(farm, (job.id,), after=0) if e.kind == "state"]
    assert told == ["queued", "parsing", "rendering", "encoding", "succeeded"]


def test_the_receipt_adds_up(farm: Farm, clock: Clock) -> None:
    """The lines of a receipt, its entries and the session's spending are one number."""
    job = submit(farm)
    Hand(farm, clock).work_off(gpu_ms=11)
    bill = receipts.receipt(farm, None, job.id)
    settled = sum(e["gpu_ms"] for e in bill["entries"] if e["kind"] == "settle")
    assert bill["final"]
    assert bill["gpu_ms"] == settled == sum(line["gpu_ms"] for line in bill["lines"])
    assert set(bill["by_stage"]) == {"parse", "render", "encode"}


def test_the_same_key_is_one_job_and_one_hold(farm: Farm) -> None:
    """A repeated submission with its Idempotency-Key is answered by the first job."""
    first, again = submit(farm, key="k"), submit(farm, key="k")
    assert first.id == again.id
    assert sessions.find(farm, account_id(farm), None).held_gpu_ms == first.held_gpu_ms


def test_a_key_with_another_body_is_refused(farm: Farm) -> None:
    """An Idempotency-Key stands for one body."""
    submit(farm, key="k")
    with pytest.raises(IdempotencyMismatch):
        jobs.submit(
            farm,
            account_id=account_id(farm),
            session_id=None,
            brief=brief("another"),
            idempotency=Idempotency(key="k", body_sha256="f" * 64),
        )


def test_a_job_over_budget_is_refused_and_leaves_no_trace(farm: Farm) -> None:
    """A refusal says what is held by what, and neither a job nor an entry is written."""
    session = sessions.create(farm, account_id=account_id(farm), name="small", budget_gpu_ms=1)
    with pytest.raises(BudgetExceeded) as refused:
        submit(farm, session=session.id)
    assert refused.value.data["needed_gpu_ms"] > refused.value.data["available_gpu_ms"] == 1
    assert refused.value.data["held_by"] == []
    assert jobs.listing(farm, None).items == ()
    assert check.violations(farm) == []


def test_what_holds_the_budget_is_named(farm: Farm) -> None:
    """A refusal names the jobs that hold what is missing."""
    need = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=brief())
    budget = need.quote.p90_gpu_ms + 1
    small = sessions.create(farm, account_id=account_id(farm), name="s", budget_gpu_ms=budget)
    first = submit(farm, session=small.id)
    with pytest.raises(BudgetExceeded) as refused:
        submit(farm, session=small.id)
    held_by = refused.value.data["held_by"]
    holds = {"gpu_ms": first.held_gpu_ms, "state": "queued", "lease_until_ms": None}
    assert held_by == [{"job_id": first.id, **holds}]


def test_a_cap_under_the_likely_cost_is_refused(farm: Farm) -> None:
    """A job whose max_gpu_seconds lies under its p50 would end unfinished, so it never starts."""
    with pytest.raises(BudgetExceeded, match="max_gpu_seconds"):
        submit(farm, brief(max_gpu_ms=1))


def test_a_cap_bounds_what_a_job_ever_holds(farm: Farm, clock: Clock) -> None:
    """held + spent of a job never exceeds its cap, whatever its units ask for."""
    quote = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=brief()).quote
    job = submit(farm, brief(max_gpu_ms=quote.p50_gpu_ms + 1))
    hand = Hand(farm, clock)
    while order := hand.claim():
        now = jobs.get(farm, None, job.id)
        assert now.held_gpu_ms + now.spent_gpu_ms <= quote.p50_gpu_ms + 1
        hand.done(order, order.gpu_ms_limit, seconds=35)
    assert check.violations(farm) == []


def test_pausing_keeps_the_frames_and_resuming_goes_on(farm: Farm, clock: Clock) -> None:
    """A job paused between two units goes on where it was and renders nothing twice."""
    job = submit(farm, brief(seconds=8.0))
    hand = Hand(farm, clock)
    for _ in range(2):  # the plan and one frame batch
        order = hand.claim()
        assert order
        hand.done(order)
    held = jobs.get(farm, None, job.id).held_gpu_ms
    paused = jobs.pause(farm, None, job.id)
    assert (paused.state, paused.pause_reason) == (JobState.PAUSED, PauseReason.USER)
    assert 0 < paused.held_gpu_ms < held, "only the encode reserve is kept"
    assert hand.claim() is None
    assert jobs.resume(farm, None, job.id).state is JobState.QUEUED
    hand.work_off()
    ended = jobs.get(farm, None, job.id)
    assert ended.state is JobState.SUCCEEDED
    units = jobs.units(farm, None, job.id)
    assert all(view.unit.fence == 1 for view in units), "nothing was rendered twice"
    assert check.violations(farm) == []


def test_cancelling_waits_for_the_lease_and_charges_what_it_measured(
    farm: Farm, clock: Clock
) -> None:
    """A cancel is an intent until the worker has stopped; its steps are charged, no more."""
    job = submit(farm)
    hand = Hand(farm, clock)
    hand.done(hand.claim(), 5)  # type: ignore[arg-type]
    order = hand.claim()
    assert order
    assert jobs.cancel(farm, None, job.id).state is JobState.RENDERING
    assert hand.beat(order, 40) == "cancel"
    clock.advance(1)
    hand.complete(order, Outcome.STOPPED, gpu_ms=40, frames=1)
    ended = jobs.get(farm, None, job.id)
    assert ended.state is JobState.CANCELLED
    assert (ended.spent_gpu_ms, ended.held_gpu_ms) == (45, 0)
    assert check.violations(farm) == []


def test_a_stopped_unit_keeps_its_whole_frames(farm: Farm, clock: Clock) -> None:
    """Frames a stopped unit kept are done; a new unit has the other frames, and none is doubled."""
    job = submit(farm, brief(seconds=8.0))
    hand = Hand(farm, clock)
    hand.done(hand.claim(), 5)  # type: ignore[arg-type]
    order = hand.claim()
    assert order
    frames = len(order.work.frames)  # type: ignore[union-attr]
    clock.advance(1)
    hand.complete(order, Outcome.STOPPED, gpu_ms=30, frames=1, wasted_gpu_ms=9)
    now = jobs.get(farm, None, job.id)
    assert now.frames_done == 1
    views = jobs.units(farm, None, job.id)
    first = [v.unit for v in views if v.unit.kind is UnitKind.RENDER][:2]
    assert [u.frames for u in first] == [1, frames - 1]
    assert [u.state for u in first] == [UnitState.DONE, UnitState.READY]
    hand.work_off()
    assert jobs.get(farm, None, job.id).state is JobState.SUCCEEDED
    bill = receipts.receipt(farm, None, job.id)
    assert bill["lost_gpu_ms"] == 9, "the interrupted micro-batch is the farm's"
    assert check.violations(farm) == []


def test_a_job_pauses_for_budget_and_a_top_up_resumes_it(farm: Farm, clock: Clock) -> None:
    """A job that used up its session pauses with its frames; more budget lets it finish."""
    owner = account_id(farm)
    quote = jobs.estimate(farm, account_id=owner, session_id=None, brief=brief(seconds=8.0)).quote
    tight = sessions.create(farm, account_id=owner, name="t", budget_gpu_ms=quote.p90_gpu_ms)
    job = submit(farm, brief(seconds=8.0), session=tight.id)
    hand = Hand(farm, clock)
    while order := hand.claim():
        hand.done(order, order.gpu_ms_limit, seconds=35)
    paused = jobs.get(farm, None, job.id)
    assert (paused.state, paused.pause_reason) == (JobState.PAUSED, PauseReason.BUDGET)
    assert sessions.get(farm, None, tight.id).spent_gpu_ms <= quote.p90_gpu_ms
    kept = paused.frames_done
    sessions.top_up(farm, owner, tight.id, quote.p90_gpu_ms * 10)
    assert jobs.get(farm, None, job.id).state is JobState.QUEUED
    hand.work_off()
    ended = jobs.get(farm, None, job.id)
    assert ended.state is JobState.SUCCEEDED
    assert ended.frames_done > kept > 0
    assert check.violations(farm) == []


def test_pausing_again_and_again_asks_for_no_more_budget(farm: Farm, clock: Clock) -> None:
    """Only a limit that was too low raises what the next lease asks for; a pause never does."""
    job = submit(farm)
    hand = Hand(farm, clock)
    hand.done(hand.claim(), 5)  # type: ignore[arg-type]
    limits = []
    for _ in range(4):
        order = hand.claim()
        assert order
        limits.append(order.gpu_ms_limit)
        jobs.pause(farm, None, job.id)
        jobs.resume(farm, None, job.id)  # taken back before the worker has heard of it
        clock.advance(1)
        hand.complete(order, Outcome.STOPPED, gpu_ms=0)
    assert len(set(limits)) == 1


def test_another_tenant_sees_nothing(farm: Farm) -> None:
    """A job of another account is not found, whatever is asked of it."""
    job = submit(farm)
    for verb in (jobs.get, jobs.pause, jobs.resume, jobs.cancel, deleting.delete, jobs.units):
        with pytest.raises(NotFound):
            verb(farm, "acc_other", job.id)
    assert jobs.listing(farm, "acc_other").items == ()


def test_only_an_ended_job_can_be_deleted(farm: Farm, clock: Clock) -> None:
    """Deleting names the files to remove, hides the job and leaves its ledger entries."""
    job = submit(farm)
    with pytest.raises(Conflict):
        deleting.delete(farm, None, job.id)
    Hand(farm, clock).work_off()
    keys = deleting.delete(farm, None, job.id)
    assert any(key.endswith("video.mp4") for key in keys)
    with pytest.raises(NotFound):
        jobs.get(farm, None, job.id)
    assert check.violations(farm) == []


def test_jobs_are_listed_newest_first_by_cursor(farm: Farm) -> None:
    """Pages follow each other without a gap or a double."""
    made = [submit(farm).id for _ in range(5)]
    first = jobs.listing(farm, None, limit=3)
    second = jobs.listing(farm, None, limit=3, after=first.next_cursor)
    assert [job.id for job in (*first.items, *second.items)] == made[::-1]
    assert second.next_cursor is None


def test_a_list_by_session_shows_its_owner_alone(farm: Farm) -> None:
    """A session's jobs, of those in a state, are another account's no more than their names are."""
    job = submit(farm)
    mine, other = account_id(farm), accounts.create(farm, name="other", plan="studio").account.id
    for state in (None, JobState.QUEUED):
        by = JobsWanted(session_id=job.session_id, state=state)
        assert jobs.listing(farm, mine, wanted=by).items == (job,)
        assert jobs.listing(farm, None, wanted=by).items == (job,)
        assert jobs.listing(farm, other, wanted=by).items == ()
    assert jobs.listing(farm, mine, wanted=JobsWanted(session_id="ses_none")).items == ()
    paused = JobsWanted(session_id=job.session_id, state=JobState.PAUSED)
    assert jobs.listing(farm, mine, wanted=paused).items == ()


def test_events_are_told_behind_each_job_s_own_cursor(farm: Farm, clock: Clock) -> None:
    """One look for many jobs, in the words of either database: newer ones only, oldest first."""
    first, second, third = (submit(farm).id for _ in range(3))
    Hand(farm, clock).work_off()
    of = {job_id: jobs.events(farm, (job_id,), after=0) for job_id in (first, second, third)}
    assert all(len(told) > 5 for told in of.values())
    seen = {first: of[first][1].id, second: of[second][-1].id, third: 0}
    newer = jobs.newer_events(farm, seen, limit=1000)
    due = sorted((*of[first][2:], *of[third]), key=lambda event: event.id)
    assert list(newer) == due
    assert list(jobs.newer_events(farm, seen, limit=3)) == due[:3]
    assert jobs.newer_events(farm, {}, limit=9) == ()
    strange = {"job_'\\u0022": 0, second: 2**62}
    assert jobs.newer_events(farm, strange, limit=9) == ()


def test_the_last_job_of_a_reference_image_takes_it_along(farm: Farm, clock: Clock) -> None:
    """A picture goes with the last deleted job that started from it, and not before."""
    with_painter(farm)
    picture = f"inputs/{'a' * 64}/input.png"
    pictures.keep(farm, picture, 1, lambda: None)
    first, second = (submit(farm, brief(model="painter", image=picture)) for _ in "12")
    for job in (first, second):
        jobs.cancel(farm, None, job.id)
    assert picture not in deleting.delete(farm, None, first.id)
    assert picture in deleting.delete(farm, None, second.id)
