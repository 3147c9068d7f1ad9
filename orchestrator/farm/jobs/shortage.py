"""Refusals for want of budget: the limit, what holds it until when, and what helps."""

from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from orchestrator.errors import BudgetExceeded, PlanLimit
from orchestrator.farm.books import months
from orchestrator.farm.jobs import quoting
from orchestrator.farm.jobs.quoting import Alternative, Offer
from orchestrator.farm.kernel import Farm
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.model import Job, Json, Lease, Month, RenderPlan, Session, Unit
from orchestrator.money import ledger
from orchestrator.money.plans import OPEN_JOBS
from orchestrator.states import JobState, LeaseState

HOLDERS: Final = 20
"""The largest holds are named; a session with thousands of jobs is told of these."""
_OPEN: Final = tuple(state for state in JobState if not state.is_terminal)
R = TypeVar("R", BudgetExceeded, PlanLimit)


def for_rest(session: Session, job: Job, month: Month, units: list[Unit]) -> BudgetExceeded:
    """Return the refusal of a paused job whose next unit needs more than there is."""
    room = ledger.extendable_gpu_ms(session, job, month)
    needed_gpu_ms = ledger.least_gpu_ms(job, units) - job.held_gpu_ms
    has = {
        "session": f"session {session.name!r} has left",
        "session_closed": f"session {session.name!r}, which is closed, gives",
        "month": "the account's month has left",
        "max_gpu_seconds": "its own max_gpu_seconds allows",
    }[ledger.binding_limit(session, job, month)]
    return BudgetExceeded(
        f"Its next unit needs {(needed_gpu_ms - room) / 1000:.3f} GPU-seconds more than {has}.",
        needed_gpu_ms=needed_gpu_ms,
        available_gpu_ms=room,
        rest_gpu_ms=max(needed_gpu_ms, ledger.rest_gpu_ms(job, units) - job.held_gpu_ms),
    )


def explained(
    farm: Farm,
    tx: Transaction,
    refused: BudgetExceeded,
    job: Job,
    session: Session,
    month: Month,
    **more: object,
) -> BudgetExceeded:
    """Return the refusal with the limit it met, what holds how much of it, and the way out."""
    limit = str(refused.data.get("limit") or ledger.binding_limit(session, job, month))
    needed, room = refused.data["needed_gpu_ms"], refused.data["available_gpu_ms"]
    # Of a top-up, what is still to sink goes first.
    sinking = ledger.pending_gpu_ms(session) if limit == "session" else 0
    missing = max(0, needed - room) + sinking
    stopped = "alert_percent" in refused.data
    rest = max(missing, refused.data.get("rest_gpu_ms", 0) - room + sinking)
    large = 0 if stopped else needed
    way_out = _way_out(farm, job, session, month, limit, needed_gpu_ms=large, missing_gpu_ms=rest)
    holders = [] if stopped else _holders(tx, job, session, month, limit)
    if stopped:  # no job is small enough for a budget that is stopped
        way_out = way_out.replace(", or ask for less.", ".").replace(" ask for less,", "")
        way_out += _or_other_alerts(session, month, limit)
    coming = sum(each["gpu_ms"] for each in holders if each["state"] != JobState.PAUSED)
    if limit in ("session", "month") and 0 < missing <= coming:
        way_out += " Or wait: the jobs that hold it give back what they do not use."
    way_out += or_finish(job)
    budget = month if limit == "month" else session
    facts = {
        "limit": limit,
        "limit_gpu_ms": job.cap_gpu_ms if limit == "max_gpu_seconds" else budget.limit_gpu_ms,
        "needed_gpu_ms": needed,
        "available_gpu_ms": room,
        "missing_gpu_ms": missing,
        "held_by": holders,
    }
    return BudgetExceeded(refused.message, next=way_out, **{**refused.data, **facts, **more})


def check_plan(farm: Farm, tx: Transaction, month: Month, plan: RenderPlan) -> None:
    """Refuse what the account's plan does not allow.

    Raises:
        PlanLimit: names the limit; of open jobs, the oldest of those there are.
    """
    count = tx.books.open_jobs(month.account_id)
    try:
        months.plan_of(farm, tx, month).check(plan, open_jobs=count)
    except PlanLimit as refused:
        if refused.data.get("limit") != OPEN_JOBS:
            raise
        found = tx.find(Job, account_id=month.account_id, state=_OPEN, limit=HOLDERS)
        there = [{"job_id": job.id, "state": job.state.value} for job in found]
        raise PlanLimit(
            refused.message, next=refused.next, **{**refused.data, "open_jobs": there}
        ) from None


def may_shrink(refusal: BudgetExceeded | PlanLimit | None) -> bool:
    """Tell whether asking for less could help."""
    if refusal is None:
        return False
    limit = refusal.data.get("limit")
    return "alert_percent" not in refusal.data and limit not in (OPEN_JOBS, "session_closed")


def with_alternatives(
    farm: Farm, tx: Transaction, refusal: R, asked: Offer, session: Session, room_gpu_ms: int
) -> R:
    """Return a refusal that names what would be taken."""
    others: tuple[Alternative, ...] = ()
    if may_shrink(refusal):
        others = quoting.alternatives(farm, tx, asked, session, room_gpu_ms)
    facts = {**refusal.data, "alternatives": others}
    return type(refusal)(refusal.message, next=refusal.next, **facts)


def may_finish(job: Job) -> bool:
    """Tell whether a job could end now with what it has, and that would be less than all."""
    some = 0 < job.frames_done < job.frames_total
    return job.state is JobState.PAUSED and some and not job.truncated


def or_finish(job: Job) -> str:
    """Return the other way out of a paused job with finished frames, after a space; or nothing."""
    if not may_finish(job):
        return ""
    return (
        f" Or make the video of its {job.frames_done} finished frames: `farm jobs finish {job.id}`."
    )


def _or_other_alerts(session: Session, month: Month, limit: str) -> str:
    if limit == "month":
        return f" Or have the operator change its alerts: `farm account alerts {month.account_id}`."
    return f" Or change its alerts: `farm session alerts {session.id}`."


def _holders(tx: Transaction, job: Job, session: Session, month: Month, limit: str) -> list[Json]:
    """Return the other jobs that hold of this budget, the largest first, and until when."""
    if limit == "month":
        found = tx.find(Job, account_id=job.account_id, state=_OPEN, month_id=month.id)
    else:
        found = tx.find(Job, session_id=session.id, state=_OPEN)
    holders = [each for each in found if each.held_gpu_ms and each.id != job.id]
    holders.sort(key=lambda each: -each.held_gpu_ms)
    named = holders[:HOLDERS]
    until: dict[str, int] = {}
    if named:
        ids = tuple(each.id for each in named)
        for lease in tx.find(Lease, job_id=ids, state=LeaseState.OPEN):
            until[lease.job_id] = max(until.get(lease.job_id, 0), lease.expires_at_ms)
    return [
        {
            "job_id": each.id,
            "state": each.state.value,
            "gpu_ms": each.held_gpu_ms,
            "lease_until_ms": until.get(each.id),
        }
        for each in named
    ]


def _way_out(
    farm: Farm,
    job: Job,
    session: Session,
    month: Month,
    limit: str,
    *,
    needed_gpu_ms: int,
    missing_gpu_ms: int,
) -> str:
    if limit == "session_closed":
        return "Open a new session with `farm session create NAME`; a closed one gives no more."
    if limit == "max_gpu_seconds":
        return (
            "Its own limit stays: cancel it and make a shorter variation, or one with a higher "
            "max_gpu_seconds."
            if job.state is JobState.PAUSED
            else "Raise max_gpu_seconds, or take one of the alternatives; nothing was charged."
        )
    if limit == "month":
        wait = f"Wait for the next month (from {_next_month(farm.clock())}), ask"
        if month.limit_gpu_ms is not None and needed_gpu_ms > month.limit_gpu_ms:
            wait = "A whole month of this plan has less than that: ask"
        return f"{wait} for less, or have {_other_plan(month)}."
    return _top_up(farm, job, session, month, missing_gpu_ms)


def _top_up(farm: Farm, job: Job, session: Session, month: Month, missing_gpu_ms: int) -> str:
    paused = job.state is JobState.PAUSED
    plan = farm.plans.get(month.plan)
    most = plan.most_session_gpu_ms if plan else None
    gain = missing_gpu_ms - ledger.pending_gpu_ms(session)
    if plan and most is not None and session.limit_gpu_ms + gain > most:
        return (
            f"The plan {plan.name} allows a session no more than {most / 1000:g} GPU-seconds: have "
            f"{_other_plan(month)}"
            + (
                "."
                if paused
                else ", open another with `farm session create NAME`, or ask for less."
            )
        )
    command = f"`farm session topup {session.id} {missing_gpu_ms / 1000:.3f}`"
    left = month.available_gpu_ms
    if left is not None and session.available_gpu_ms + gain > left:
        return (
            f"Top it up: {command}; and since the account's month has {left / 1000:.3f} left, have "
            f"{_other_plan(month)}{'.' if paused else ', or ask for less.'}"
        )
    if paused:
        return f"Top it up: {command} likely is enough for the rest, and it goes on by itself."
    return f"Top it up: {command}, or ask for less."


def _other_plan(month: Month) -> str:
    return f"the operator change the plan (`farm account set-plan {month.account_id} PLAN`)"


def _next_month(now_ms: int) -> str:
    first = datetime.fromtimestamp(now_ms / 1000, UTC).replace(day=1)
    return f"{(first + timedelta(days=32)).replace(day=1):%Y-%m-%d}"
