"""Quoting and submitting a job: what it would be and cost, and the transaction that makes it."""

import math
from dataclasses import dataclass, replace

from orchestrator import safe_text
from orchestrator.errors import BudgetExceeded, NotAllowed, PlanLimit
from orchestrator.farm import webhook_queue
from orchestrator.farm.books import alerts, cap_hits, months
from orchestrator.farm.books.session_limits import check_open, seen_within, within
from orchestrator.farm.jobs import extensions, keeping, pictures, quoting, shortage
from orchestrator.farm.jobs.admission import admitted
from orchestrator.farm.jobs.labelling import labels_of
from orchestrator.farm.jobs.loaded_job import LoadedJob
from orchestrator.farm.jobs.quoting import PLAIN, Alternative, Offer
from orchestrator.farm.kernel import Farm, Promise
from orchestrator.farm.kernel.idempotency import answered, remember
from orchestrator.farm.kernel.owned import named_session, own_job, own_session
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.model import (
    Allowance,
    Brief,
    FrameBatch,
    Handling,
    Job,
    Key,
    Month,
    Quote,
    RenderPlan,
    Ruling,
    Session,
    Unit,
    Watermark,
)
from orchestrator.money import allowances, ledger, monthly, pricing
from orchestrator.money.plans import Plan
from orchestrator.planning.plan_json import digest_of
from orchestrator.remedies import UseSession
from orchestrator.states import JobState, UnitKind, UnitState
from orchestrator.wire import PARSE_QUEUE


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A job as it would be, and its cost; nothing was written."""

    render_plan: RenderPlan
    quote: Quote
    session: Session
    available_gpu_ms: int
    """Room for a new job of the session, within its account's month."""
    refusal: BudgetExceeded | PlanLimit | None
    """The refusal it would get: which limit, what holds it until when, and the way out."""
    alternatives: tuple[Alternative, ...]
    ceiling_gpu_ms: int | None
    """The most it would be charged, which it holds; None: it would be metered."""
    hold_gpu_ms: int
    """Budget that it would hold from the start."""
    fitted: str | None = None
    """Words for what gave so that it fits."""
    watermark: Watermark | None = None

    @property
    def fits(self) -> bool:
        """Tell whether it would be taken as it is."""
        return self.refusal is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """The job, and whether this call made it (or an earlier one with the same key did)."""

    job: Job
    created: bool
    webhook_secret: str | None = None
    """Of the endpoint that its `webhook_url` made: shown with its first job alone."""


def estimate(
    farm: Farm,
    *,
    account_id: str,
    session_id: str | None,
    brief: Brief,
    seed: int | None = None,
    fit: bool = False,
    handling: Handling = PLAIN,
    key: Key | None = None,
) -> Estimate:
    """Plan and price a brief, or with `fit` the variant that would be taken. No side effect.

    Raises:
        NotFound: its reference picture was removed.
    """
    with farm.store.read() as tx:
        month = months.seen(farm, tx, account_id, farm.clock())
        paying = _session(tx, account_id, session_id, key)
        session = seen_within(paying, farm.plans.get(month.plan))
        allowance = tx.get(Allowance, key.allowance_id) if key else None
        account_plan = months.plan_of(farm, tx, month)
        asked = quoting.offer(
            farm, tx, brief, seed=seed, account_plan=account_plan, handling=handling
        )
        pictures.check_known(tx, brief.image)
        available = quoting.available(session, month, allowance)
        room = quoting.room_for(available, brief)
        if fit:
            asked = quoting.fitted(farm, tx, asked, room)
        refusal = _refusal(farm, tx, session, month, asked, key)
        helps = shortage.may_shrink(refusal)
        others = quoting.alternatives(farm, tx, asked, session, room) if helps else ()
        refusal = refusal and shortage.pointing_to(others, refusal)
    return Estimate(
        render_plan=asked.render_plan,
        quote=asked.quote,
        session=session,
        available_gpu_ms=available,
        refusal=refusal,
        alternatives=others,
        ceiling_gpu_ms=ledger.ceiling_for(asked.quote, asked.brief, asked.price),
        hold_gpu_ms=quoting.held(asked),
        fitted=asked.fitted,
        watermark=account_plan.mark,
    )


@cap_hits.counted
def submit(
    farm: Farm,
    *,
    account_id: str,
    session_id: str | None,
    brief: Brief,
    idempotency: Promise | None = None,
    handling: Handling = PLAIN,
    fit: bool = False,
    ruling: Ruling | None = None,
    alternatives: bool = False,
    key: Key | None = None,
) -> Submission:
    """Write the job, its hold and its first unit in one transaction.

    `handling`: how it is labelled, told of and kept. `fit`: where it does not fit, take the best
    variant that does. `ruling`: the policy's, on its prompt. `alternatives`: a refusal names what
    would fit, which costs more than the job would; else a quote does. `key`: that asks, whose
    bounds hold.

    Raises:
        PolicyRefused: the operator's policy does not want it.
        NotFound: its reference picture is not there any more.
        NotAllowed: the key is bound to another session.
        BudgetExceeded: it does not fit; `data` says what is held by what.
        PlanLimit: its files would be kept for longer than the plan keeps them.
    """
    webhook_queue.check_job_events(handling.webhook_events)
    now = farm.clock()
    job_id = farm.new_id("job", now)
    how: shortage.Help = {"named": alternatives, "tried": fit}
    with farm.store.write() as tx:
        # Locked first: the same request beside this one then finds what this one remembered.
        session = _session(tx, account_id, session_id, key, lock=True)
        earlier = answered(tx, account_id, idempotency)
        if earlier:
            return Submission(job=own_job(tx, account_id, earlier), created=False)
        check_open(tx, session, alone=key is not None and key.session_id is not None)
        allowance = tx.get(Allowance, key.allowance_id, lock=True) if key else None
        rulings = admitted(farm, ruling)
        month = months.current(farm, tx, account_id, now)
        account_plan = farm.plans.get(month.plan)
        session = within(farm, tx, session, month, now)
        seed = _chance_seed(job_id)
        asked = quoting.offer(
            farm, tx, brief, seed=seed, account_plan=account_plan, handling=handling
        )
        if fit:
            room = quoting.room_for(quoting.available(session, month, allowance), brief)
            asked = quoting.fitted(farm, tx, asked, room)
        extensions.check(tx, account_id, asked.brief, asked.render_plan)
        pictures.check(tx, asked.brief.image)
        try:
            shortage.check_plan(farm, tx, month, asked.render_plan)
        except PlanLimit as refused:
            room = quoting.room_for(quoting.available(session, month, allowance), brief)
            raise shortage.helped(farm, tx, refused, asked, session, room, **how) from None
        job = replace(_new_job(farm, job_id, session, month, asked, now, key), rulings=rulings)
        job, secret = _handled(farm, tx, job, handling, account_plan)
        tx.add(job)
        if words := labels_of(job):
            tx.listings.label(job_id, account_id, words)
        loaded = LoadedJob(farm, tx, job_id, session.id, now)
        loaded.join()
        _hold(loaded, asked, session, month, how)
        tx.add(_plan_unit(loaded, asked))
        remember(tx, account_id, idempotency, job_id, now)
        loaded.tell("state", state=job.state.value, pause_reason=None, error=None)
        return Submission(job=loaded.close(), created=True, webhook_secret=secret)


# --- inside -------------------------------------------------------------------------------


def _hold(
    loaded: LoadedJob, asked: Offer, session: Session, month: Month, how: shortage.Help
) -> None:
    """Place the hold of a new job.

    Raises:
        BudgetExceeded: it does not fit.
    """
    farm, tx, books, job = loaded.farm, loaded.tx, loaded.books, loaded.job
    try:
        alerts.check(farm, session, month, when=alerts.NEW_JOBS)
        amount = ledger.hold_for(asked.quote, asked.brief, asked.price)
        books.hold(amount, first=True)
    except BudgetExceeded as refused:
        room = ledger.extendable_gpu_ms(books.session, job, books.month, books.allowance)
        why = shortage.explained(farm, tx, refused, job, books.session, books.month)
        raise shortage.helped(farm, tx, why, asked, session, room, **how) from None


def _handled(
    farm: Farm, tx: Transaction, job: Job, handling: Handling, account_plan: Plan | None
) -> tuple[Job, str | None]:
    """Return a new job as its request wants it handled, and the secret of a new webhook."""
    now_ms = job.created_at_ms
    kept = keeping.agreed(account_plan, handling, job.account_id, now_ms)
    job = replace(
        job,
        tags=handling.tags,
        metadata=handling.metadata,
        webhook_events=handling.webhook_events,
        keep_ms=kept.keep_ms,
        keep_asked=handling.expires_in_ms is not None,
        keep_until_ms=kept.keep_until_ms,
    )
    if handling.webhook_url is None:
        return job, None
    webhook, new = webhook_queue.for_url(farm, tx, job.account_id, handling.webhook_url, now_ms)
    return replace(job, webhook_id=webhook.id), webhook.secret if new else None


def _session(
    tx: Transaction,
    account_id: str,
    session_id: str | None,
    key: Key | None,
    *,
    lock: bool = False,
) -> Session:
    """Return the session that pays: the one that is named, or that the key is bound to.

    Raises:
        NotAllowed: the key is bound to another one than is named.
    """
    if key is None or key.session_id is None:
        return named_session(tx, account_id, session_id, lock=lock)
    session = own_session(tx, account_id, key.session_id, lock=lock)
    if session_id and safe_text.normal(session_id) not in (session.id, session.name):
        raise NotAllowed(
            f"This key is bound to session {session.name!r} ({session.id}).",
            UseSession(session.id, session.name),
            session_id=session.id,
            session=session.name,
        )
    return session


def _chance_seed(job_id: str) -> int:
    """31 bits out of the chance part of the id, so that a job's seed can be told from its id."""
    return int.from_bytes(job_id[-8:].encode(), "big") % 2**31


def _refusal(
    farm: Farm, tx: Transaction, session: Session, month: Month, asked: Offer, key: Key | None
) -> BudgetExceeded | PlanLimit | None:
    """Return what a submission would be refused with; nothing is written."""
    now_ms = farm.clock()
    job = _new_job(farm, "", session, month, asked, now_ms, key)
    try:
        shortage.check_plan(farm, tx, month, asked.render_plan)
        alerts.check(farm, session, month, when=alerts.NEW_JOBS)
        amount = ledger.hold_for(asked.quote, asked.brief, asked.price)
        held = ledger.hold(session, job, amount, entry_id="", now_ms=now_ms, first=True)
        if held.entry:
            monthly.follow(month, held.entry)
        allowances.check(tx.get(Allowance, job.allowance_id), amount)
    except PlanLimit as refused:
        return refused
    except BudgetExceeded as refused:
        return shortage.explained(farm, tx, refused, job, session, month)
    return None


def _new_job(
    farm: Farm,
    job_id: str,
    session: Session,
    month: Month,
    asked: Offer,
    now_ms: int,
    key: Key | None,
) -> Job:
    plan, quote = asked.render_plan, asked.quote
    stages = {line.stage: line for line in quote.stages}
    ceiling = ledger.ceiling_for(quote, asked.brief, asked.price)
    return Job(
        id=job_id,
        account_id=session.account_id,
        key_id=key.first_id if key else None,
        allowance_id=key.allowance_id if key else None,
        session_id=session.id,
        month_id=month.id,
        state=JobState.QUEUED,
        brief=asked.brief,
        render_plan=replace(plan, batches=_one_run(plan)),
        quote=replace(
            quote,
            plan_sha256=digest_of(plan),
            fitted=asked.fitted,
            watermark=asked.account_plan.mark if asked.account_plan else None,
        ),
        image=asked.brief.image,
        model=plan.model,
        width=plan.output.width,
        height=plan.output.height,
        fps=plan.fps,
        steps=plan.steps,
        seed=plan.seed,
        frames_total=plan.frames_total,
        cap_gpu_ms=asked.brief.max_gpu_ms,
        ceiling_gpu_ms=ceiling,
        runaway_gpu_ms=None if ceiling is None else math.ceil(ceiling * farm.terms.runaway),
        encode_reserve_gpu_ms=stages[UnitKind.ENCODE].p90_gpu_ms,
        created_at_ms=now_ms,
    )


def _one_run(plan: RenderPlan) -> tuple[FrameBatch, ...]:
    # A row that grew with the number of batches would be read with each of them.
    return (FrameBatch(first_frame=0, frames=plan.frames_total),)


def _plan_unit(loaded: LoadedJob, asked: Offer) -> Unit:
    cost = pricing.unit_cost(asked.costs, UnitKind.PARSE, asked.render_plan, None)
    return Unit(
        id=loaded.farm.new_id("unt", loaded.now_ms),
        job_id=loaded.job.id,
        session_id=loaded.books.session.id,
        kind=UnitKind.PARSE,
        state=UnitState.READY,
        queue=PARSE_QUEUE,
        p50_gpu_ms=cost.p50_gpu_ms,
        p90_gpu_ms=cost.p90_gpu_ms,
        minimum_gpu_ms=cost.minimum_gpu_ms,
        created_at_ms=loaded.now_ms,
    )
