"""Jobs, as their owners see them: quote, submit, look, pause, resume, finish, cancel."""

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

from orchestrator import ledger, monthly, planner, pricing
from orchestrator.errors import BudgetExceeded, Conflict, NotFound, PlanLimit
from orchestrator.farm import (
    Farm,
    Page,
    Promise,
    alerts,
    caps,
    deeds,
    extensions,
    hooks,
    months,
    pausing,
    quoting,
    scheduling,
    shortage,
)
from orchestrator.farm.admission import admitted, shows_frames
from orchestrator.farm.case import Case
from orchestrator.farm.idempotency import answered, remember
from orchestrator.farm.paging import page
from orchestrator.farm.ports import Transaction
from orchestrator.farm.quoting import Alternative, Offer
from orchestrator.farm.sessions import check_open, find_in, seen_within, within
from orchestrator.model import (
    Brief,
    Event,
    FrameBatch,
    Job,
    Lease,
    Month,
    Plan,
    Quote,
    Ruling,
    Session,
    Unit,
)
from orchestrator.states import JobState, UnitKind, UnitState, Wish
from orchestrator.wire import PLAN_QUEUE


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a job would be and cost; nothing was written."""

    plan: Plan
    quote: Quote
    session: Session
    available_gpu_ms: int
    """What a new job of the session could hold, within its account's month."""
    refusal: BudgetExceeded | PlanLimit | None
    """Why it would be refused: which limit, what holds it until when, and the way out."""
    alternatives: tuple[Alternative, ...]
    fitted: str | None = None
    """What gave so that it fits, in words."""
    watermark: dict[str, str] | None = None
    """Its text and the plan it is by."""

    @property
    def fits(self) -> bool:
        """Whether it would be taken as it is."""
        return self.refusal is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """The job, and whether this call made it (or an earlier one with the same key did)."""

    job: Job
    created: bool
    hook_secret: str | None = None
    """Of the endpoint that its `webhook_url` made: shown with its first job alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitView:
    """A unit with the lease whose result was accepted and may be seen."""

    unit: Unit
    lease: Lease | None


def estimate(
    farm: Farm,
    *,
    account_id: str,
    session_id: str | None,
    brief: Brief,
    seed: int | None = None,
    fit: bool = False,
) -> Estimate:
    """Plan and price a brief, or with `fit` the variant that would be taken. No side effect."""
    with farm.store.read() as tx:
        month = months.seen(farm, tx, account_id, farm.clock())
        session = seen_within(find_in(tx, account_id, session_id), farm.tiers.get(month.tier))
        tier = months.tier_of(farm, tx, month)
        asked = quoting.offer(farm, tx, brief, seed=seed, tier=tier)
        available = quoting.available(session, month)
        room = quoting.room_for(available, brief)
        if fit:
            asked = quoting.fitted(farm, tx, asked, room)
        refusal = _refusal(farm, tx, session, month, asked)
        helps = shortage.may_shrink(refusal)
        others = quoting.alternatives(farm, tx, asked, session, room) if helps else ()
    return Estimate(
        plan=asked.plan,
        quote=asked.quote,
        session=session,
        available_gpu_ms=available,
        refusal=refusal,
        alternatives=others,
        fitted=asked.fitted,
        watermark=tier.mark,
    )


@caps.counted
def submit(
    farm: Farm,
    *,
    account_id: str,
    session_id: str | None,
    brief: Brief,
    idempotency: Promise | None = None,
    webhook_url: str | None = None,
    fit: bool = False,
    ruling: Ruling | None = None,
) -> Submission:
    """Write the job, its hold and its first unit in one transaction.

    `webhook_url`, checked by the caller, is told of the job's states. `fit`: where it does not
    fit, take the best variant that does. `ruling`: the policy's, on its prompt.

    Raises:
        PolicyRefused: the operator's policy does not want it.
        BudgetExceeded: it does not fit; `data` says what is held by what, and what would fit.
    """
    now = farm.clock()
    job_id = farm.new_id("job", now)
    with farm.store.write() as tx:
        # Locked first: the same request beside this one then finds what this one remembered.
        session = find_in(tx, account_id, session_id, lock=True)
        earlier = answered(tx, account_id, idempotency)
        if earlier:
            return Submission(job=own(tx, account_id, earlier), created=False)
        check_open(session)
        rulings = admitted(farm, ruling)
        month = months.current(farm, tx, account_id, now)
        tier = farm.tiers.get(month.tier)
        session = within(farm, tx, session, month, now)
        asked = quoting.offer(farm, tx, brief, seed=_chance_seed(job_id), tier=tier)
        if fit:
            room = quoting.room_for(quoting.available(session, month), brief)
            asked = quoting.fitted(farm, tx, asked, room)
        extensions.check(tx, account_id, asked.brief, asked.plan)
        try:
            shortage.check_plan(farm, tx, month, asked.plan)
        except PlanLimit as refused:
            room = quoting.room_for(quoting.available(session, month), brief)
            raise shortage.with_alternatives(farm, tx, refused, asked, session, room) from None
        job = replace(_new_job(job_id, session, month, asked, now), rulings=rulings)
        secret = None
        if webhook_url:
            hook, new = hooks.for_url(farm, tx, account_id, webhook_url, now)
            job, secret = replace(job, hook_id=hook.id), hook.secret if new else None
        tx.add(job)
        case = Case(farm, tx, job_id, session.id, now)
        scheduling.join(case)
        try:
            alerts.check(farm, session, month, when=alerts.NEW_JOBS)
            amount = ledger.hold_for(asked.quote, asked.brief)
            case.hold(amount, first=True)
        except BudgetExceeded as refused:
            room = ledger.extendable_gpu_ms(case.session, case.job, case.month)
            told = shortage.explained(farm, tx, refused, case.job, case.session, case.month)
            raise shortage.with_alternatives(farm, tx, told, asked, session, room) from None
        tx.add(_plan_unit(case, asked))
        remember(tx, account_id, idempotency, job_id, now)
        case.tell("state", state=job.state.value, pause_reason=None, error=None)
        return Submission(job=case.close(), created=True, hook_secret=secret)


def get(farm: Farm, account_id: str | None, job_id: str) -> Job:
    """Return a job. `account_id` None: of any account."""
    with farm.store.read() as tx:
        return own(tx, account_id, job_id)


def listing(
    farm: Farm,
    account_id: str | None,
    *,
    limit: int = 50,
    after: str | None = None,
    state: JobState | None = None,
    session_id: str | None = None,
    oldest_first: bool = False,
) -> Page[Job]:
    """Return jobs, newest first unless asked otherwise."""
    wanted = {"account_id": account_id, "state": state, "session_id": session_id}
    equal = {name: value for name, value in wanted.items() if value is not None}
    with farm.store.read() as tx:
        return page(tx, Job, limit, after, oldest_first=oldest_first, deleted_at_ms=None, **equal)


def pause(farm: Farm, account_id: str | None, job_id: str) -> Job:
    """Pause a job once its open leases have stopped; finished frames are kept."""
    return _wish(farm, account_id, job_id, Wish.PAUSE)


def cancel(farm: Farm, account_id: str | None, job_id: str) -> Job:
    """End a job once its open leases have stopped; the steps done are charged."""
    return _wish(farm, account_id, job_id, Wish.CANCEL)


def resume(farm: Farm, account_id: str | None, job_id: str) -> Job:
    """Let a paused job go on, or take back a pause that has not come about yet."""
    with farm.store.write() as tx:
        job = own(tx, account_id, job_id)
        case = Case(farm, tx, job_id, job.session_id, farm.clock())
        if case.job.wish is Wish.PAUSE:
            case.change(wish=None)
        else:
            pausing.resume(case)
        deeds.of_operator(farm, tx, account_id, "job.resume", job_id, job.account_id)
        return case.close()


def finish(farm: Farm, account_id: str | None, job_id: str) -> Job:
    """End a paused job with a video of its finished frames, out of its encode reserve."""
    with farm.store.write() as tx:
        job = own(tx, account_id, job_id)
        case = Case(farm, tx, job_id, job.session_id, farm.clock())
        if pausing.finish(case):
            alerts.look(case)
            deeds.of_operator(farm, tx, account_id, "job.finish", job_id, job.account_id)
        return case.close()


def units(farm: Farm, account_id: str | None, job_id: str) -> tuple[UnitView, ...]:
    """Return a job's units in frame order, each with its accepted lease.

    Without it while nobody may see its frames: pictures are found by it.
    """
    with farm.store.read() as tx:
        shown = shows_frames(farm, own(tx, account_id, job_id))
        leases = tx.find(Lease, job_id=job_id) if shown else ()
        accepted = {lease.id: lease for lease in leases}
        return tuple(
            UnitView(unit=unit, lease=accepted.get(unit.accepted_lease_id or ""))
            for unit in tx.find(Unit, job_id=job_id, order="first_frame,id")
        )


def events(
    farm: Farm, job_ids: tuple[str, ...] | None, *, after: int, limit: int = 500
) -> tuple[Event, ...]:
    """Return events with a greater id, oldest first.

    The ids of one job never appear out of order (its transactions exclude each other); those
    of several jobs may on Postgres, so follow each job by its own cursor.
    """
    equal: dict[str, Any] = {} if job_ids is None else {"job_id": job_ids}
    with farm.store.read() as tx:
        return tuple(tx.find(Event, after=after, limit=limit, **equal))


def last_event_id(farm: Farm) -> int:
    """Return the newest event's id."""
    with farm.store.read() as tx:
        return tx.last_event_id()


# --- shared with the farm's other rooms ---------------------------------------------------


def artifact_key(lease: Lease, name: str) -> str:
    """Where a file that was made under this lease lies."""
    return f"units/{lease.unit_id}/{lease.fence}/{name}"


# --- inside -------------------------------------------------------------------------------


def own(tx: Transaction, account_id: str | None, job_id: str) -> Job:
    """Return a job of this account that was not deleted, within an open transaction."""
    job = tx.get(Job, job_id)
    hidden = job is None or job.deleted_at_ms is not None
    if job is None or hidden or account_id not in (None, job.account_id):
        raise NotFound(f"There is no job {job_id}.", next="List yours with `farm jobs ls`.")
    return job


def _wish(farm: Farm, account_id: str | None, job_id: str, wish: Wish) -> Job:
    with farm.store.write() as tx:
        job = own(tx, account_id, job_id)
        case = Case(farm, tx, job_id, job.session_id, farm.clock())
        if case.job.state.is_terminal or (
            wish is Wish.PAUSE and (case.job.state is JobState.PAUSED or case.job.wish)
        ):
            raise Conflict(f"A job that is {case.job.wish or case.job.state} cannot {wish}.")
        case.change(wish=wish)
        case.grant_wish()
        alerts.look(case)  # a limit that was to be lower may have sunk
        deeds.of_operator(farm, tx, account_id, f"job.{wish}", job_id, job.account_id)
        return case.close()


def _chance_seed(job_id: str) -> int:
    """31 bits out of the chance part of the id, so that a job's seed can be told from its id."""
    return int.from_bytes(job_id[-8:].encode(), "big") % 2**31


def _refusal(
    farm: Farm, tx: Transaction, session: Session, month: Month, asked: Offer
) -> BudgetExceeded | PlanLimit | None:
    """Return what a submission would be refused with; nothing is written."""
    now_ms = farm.clock()
    job = _new_job("", session, month, asked, now_ms)
    try:
        shortage.check_plan(farm, tx, month, asked.plan)
        alerts.check(farm, session, month, when=alerts.NEW_JOBS)
        amount = ledger.hold_for(asked.quote, asked.brief)
        held = ledger.hold(session, job, amount, entry_id="", now_ms=now_ms, first=True)
        if held.entry:
            monthly.follow(month, held.entry)
    except PlanLimit as refused:
        return refused
    except BudgetExceeded as refused:
        return shortage.explained(farm, tx, refused, job, session, month)
    return None


def _new_job(job_id: str, session: Session, month: Month, asked: Offer, now_ms: int) -> Job:
    plan, quote = asked.plan, asked.quote
    stages = {line.stage: line for line in quote.stages}
    return Job(
        id=job_id,
        account_id=session.account_id,
        session_id=session.id,
        month_id=month.id,
        state=JobState.QUEUED,
        brief=planner.brief_json(asked.brief),
        plan=planner.plan_json(replace(plan, batches=_one_run(plan))),
        quote=quoting.quote_json(quote)
        | {
            "plan_sha256": digest_of(plan),
            "step_prior": pricing.step_prior(asked.costs, plan),
            "measured": asked.costs.factor(UnitKind.RENDER, plan.steps).samples > 0,
            "device_class": asked.costs.device_class,
            "fitted": asked.fitted,
            "watermark": asked.tier.mark if asked.tier else None,
        },
        image=asked.brief.image,
        model=plan.model,
        width=plan.output.width,
        height=plan.output.height,
        fps=plan.fps,
        steps=plan.steps,
        seed=plan.seed,
        frames_total=plan.frames_total,
        cap_gpu_ms=asked.brief.max_gpu_ms,
        encode_reserve_gpu_ms=stages[UnitKind.ENCODE].p90_gpu_ms,
        created_at_ms=now_ms,
    )


def digest_of(plan: Plan) -> str:
    """Return the SHA-256 by which the plan of a worker is known to be the one quoted."""
    text = json.dumps(planner.plan_json(plan), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _one_run(plan: Plan) -> tuple[FrameBatch, ...]:
    # A row that grew with the number of batches would be read with each of them.
    return (FrameBatch(first_frame=0, frames=plan.frames_total),)


def _plan_unit(case: Case, asked: Offer) -> Unit:
    cost = pricing.unit_cost(asked.costs, UnitKind.PLAN, asked.plan, None)
    return Unit(
        id=case.farm.new_id("unt", case.now_ms),
        job_id=case.job.id,
        session_id=case.session.id,
        kind=UnitKind.PLAN,
        state=UnitState.READY,
        queue=PLAN_QUEUE,
        p50_gpu_ms=cost.p50_gpu_ms,
        p90_gpu_ms=cost.p90_gpu_ms,
        floor_gpu_ms=cost.floor_gpu_ms,
        created_at_ms=case.now_ms,
    )
