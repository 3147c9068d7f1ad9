"""Refusals for want of budget: the limit, what holds it until when, and what helps."""

from dataclasses import replace
from typing import Final, TypedDict, TypeVar, Unpack

from orchestrator.errors import BudgetExceeded, PlanLimit
from orchestrator.farm.books import months, session_limits
from orchestrator.farm.jobs import quoting
from orchestrator.farm.jobs.quoting import Alternative, Offer
from orchestrator.farm.kernel import Farm
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.model import Allowance, Job, Json, Lease, Month, RenderPlan, Session, Unit
from orchestrator.money import ledger, monthly
from orchestrator.money.plans import OPEN_JOBS
from orchestrator.remedies import (
    AskForLess,
    Cancel,
    ChangeAlerts,
    ChangeMonthAlerts,
    ChangePlan,
    FinishEarly,
    OpenSession,
    RaiseAllowance,
    RaiseLimit,
    Remedy,
    Say,
    SeeAlternatives,
    TakeAlternative,
    TopUp,
    WaitForHolders,
    WaitForMonth,
)
from orchestrator.states import JobState, LeaseState

HOLDERS: Final = 20
"""The largest holds are named; a session with thousands of jobs is told of these."""
R = TypeVar("R", bound=BudgetExceeded | PlanLimit)


class Help(TypedDict):
    """Ways in which a refusal says what would be taken."""

    named: bool
    """By variants, each planned and priced, which costs several times what the job would; else a
    quote does it."""
    tried: bool
    """Every variant was tried already, and none would be."""


def for_rest(
    session: Session,
    job: Job,
    month: Month,
    allowance: Allowance | None,
    units: list[Unit],
    *,
    rest_gpu_ms: int,
) -> BudgetExceeded:
    """Return the refusal of a paused job whose next unit needs more than there is.

    `rest_gpu_ms`: what all that is left of it needs, by the pace that was seen on it.
    """
    room = ledger.extendable_gpu_ms(session, job, month, allowance)
    needed_gpu_ms = ledger.least_gpu_ms(job, units) - job.held_gpu_ms
    has = {
        "session": f"session {session.name!r} has left",
        "session_closed": f"session {session.name!r}, which is closed, gives",
        "month": "the account's month has left",
        "max_gpu_seconds": "its own max_gpu_seconds allows",
        "key": "the allowance of the key that submitted it has left",
    }[ledger.binding_limit(session, job, month, allowance)]
    return BudgetExceeded(
        f"{_what_needs(job)} {(needed_gpu_ms - room) / 1000:.3f} GPU-seconds more than {has}.",
        needed_gpu_ms=needed_gpu_ms,
        available_gpu_ms=room,
        rest_gpu_ms=max(needed_gpu_ms, rest_gpu_ms - job.held_gpu_ms),
    )


def _what_needs(job: Job) -> str:
    return "Its next unit needs" if job.ceiling_gpu_ms is None else "The rest of it holds"


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
    allowance = tx.get(Allowance, job.allowance_id)
    limit = str(refused.data.get("limit") or ledger.binding_limit(session, job, month, allowance))
    needed, room = refused.data["needed_gpu_ms"], refused.data["available_gpu_ms"]
    # Of a top-up, what is still to sink goes first.
    sinking = ledger.pending_gpu_ms(session) if limit == "session" else 0
    missing = max(0, needed - room) + sinking
    stopped = "alert_percent" in refused.data
    rest = max(missing, refused.data.get("rest_gpu_ms", 0) - room + sinking)
    holders = [] if stopped else _holders(tx, job, session, month, limit)
    besides, remedies = _way_out(
        farm,
        tx,
        job,
        session,
        month,
        limit,
        needed_gpu_ms=0 if stopped else needed,
        missing_gpu_ms=rest,
    )
    if stopped:  # no job is small enough for a budget that is stopped
        remedies = [each for each in remedies if not isinstance(each, AskForLess)]
        remedies.append(_other_alerts(session, month, limit))
    coming = sum(each["gpu_ms"] for each in holders if each["state"] != JobState.PAUSED)
    if limit in ("session", "month", "key") and 0 < missing <= coming:
        remedies.append(WaitForHolders())
    limits = {
        "max_gpu_seconds": job.cap_gpu_ms,
        "month": month.limit_gpu_ms,
        "key": allowance.limit_gpu_ms if allowance else None,
    }
    facts = {
        "limit": limit,
        "limit_gpu_ms": limits.get(limit, session.limit_gpu_ms),
        "needed_gpu_ms": needed,
        "available_gpu_ms": room,
        "missing_gpu_ms": missing,
        "held_by": holders,
    }
    return BudgetExceeded(
        f"{refused.message} {besides}".strip(),
        *remedies,
        *early_finish(job),
        **{**refused.data, **facts, **more},
    )


def check_plan(farm: Farm, tx: Transaction, month: Month, plan: RenderPlan) -> None:
    """Refuse what the account's plan does not allow.

    Raises:
        PlanLimit: names the limit; of open jobs, the oldest of those there are.
    """
    count = tx.books.open_jobs(month.account_id)
    account_plan = months.plan_of(farm, tx, month)
    try:
        account_plan.check(plan, open_jobs=count)
    except PlanLimit as refused:
        facts = refused.data
        if facts["limit"] == OPEN_JOBS:
            mine = month.account_id
            found = tx.find(Job, account_id=mine, finished_at_ms=None, limit=HOLDERS)
            there = [{"job_id": job.id, "state": job.state.value} for job in found]
            facts = facts | {"open_jobs": there}
        remedies = (*refused.remedies, ChangePlan(month.account_id))
        raise PlanLimit(refused.message, *remedies, **facts) from None


def may_shrink(refusal: BudgetExceeded | PlanLimit | None) -> bool:
    """Tell whether asking for less could help."""
    if refusal is None:
        return False
    limit = refusal.data.get("limit")
    return "alert_percent" not in refusal.data and limit not in (OPEN_JOBS, "session_closed")


def helped(
    farm: Farm,
    tx: Transaction,
    refusal: R,
    asked: Offer,
    session: Session,
    room_gpu_ms: int,
    **how: Unpack[Help],
) -> R:
    """Return a refusal that says what to ask for instead."""
    if not (how["named"] or how["tried"]):
        return _pointing_to_quote(refusal)
    others: tuple[Alternative, ...] = ()
    if may_shrink(refusal) and not how["tried"]:
        others = quoting.alternatives(farm, tx, asked, session, room_gpu_ms)
    told = pointing_to(others, refusal)
    told.data["alternatives"] = others
    return told


def _pointing_to_quote(refusal: R) -> R:
    if not may_shrink(refusal):
        return refusal
    remedies = (
        SeeAlternatives() if isinstance(each, AskForLess) else each for each in refusal.remedies
    )
    return type(refusal)(refusal.message, *remedies, **refusal.data)


def pointing_to(others: tuple[Alternative, ...], refusal: R) -> R:
    """Return a refusal that says to take one of the variants where it said to ask for less."""
    remedies = (
        TakeAlternative() if others and isinstance(each, AskForLess) else each
        for each in refusal.remedies
    )
    return type(refusal)(refusal.message, *remedies, **refusal.data)


def may_finish(job: Job) -> bool:
    """Tell whether a job could end now with what it has, and that would be less than all."""
    some = 0 < job.frames_done < job.frames_total
    return job.state is JobState.PAUSED and some and not job.truncated


def early_finish(job: Job) -> tuple[Remedy, ...]:
    """Return the other way out of a paused job with finished frames; or nothing."""
    return (FinishEarly(job.id, job.frames_done),) if may_finish(job) else ()


def _other_alerts(session: Session, month: Month, limit: str) -> Remedy:
    if limit == "month":
        return ChangeMonthAlerts(month.account_id)
    return ChangeAlerts(session.id, session.name)


def _holders(tx: Transaction, job: Job, session: Session, month: Month, limit: str) -> list[Json]:
    """Return the other jobs that hold of this budget, the largest first, and until when."""
    if limit == "month":
        named = tx.books.holders_of_month(month.account_id, month.id, but=job.id, limit=HOLDERS)
    elif limit == "key" and job.allowance_id:
        named = tx.books.holders_of_allowance(
            job.account_id, job.allowance_id, but=job.id, limit=HOLDERS
        )
    else:
        named = tx.books.holders_of_session(session.id, but=job.id, limit=HOLDERS)
    until: dict[str, int] = {}
    if named:
        for lease in tx.find(Lease, job_id=tuple(named), state=LeaseState.OPEN):
            until[lease.job_id] = max(until.get(lease.job_id, 0), lease.expires_at_ms)
    return [
        {
            "job_id": job_id,
            "state": state.value,
            "gpu_ms": held_gpu_ms,
            "lease_until_ms": until.get(job_id),
        }
        for job_id, (state, held_gpu_ms) in named.items()
    ]


def _way_out(
    farm: Farm,
    tx: Transaction,
    job: Job,
    session: Session,
    month: Month,
    limit: str,
    *,
    needed_gpu_ms: int,
    missing_gpu_ms: int,
) -> tuple[str, list[Remedy]]:
    """Return what helps, the best first, and what else is to be known for it."""
    paused = job.state is JobState.PAUSED
    less: list[Remedy] = [] if paused else [AskForLess()]
    if limit == "session_closed":
        ways = session_limits.when_closed(tx, session)
        return "A closed session gives no more.", [*(ways[:1] if paused else ways)]
    if limit == "key":
        allowance = tx.get(Allowance, job.allowance_id)
        assert allowance, "it binds"
        enough = allowance.limit_gpu_ms + missing_gpu_ms
        return "", [RaiseAllowance(allowance.id, enough, goes_on=paused), *less]
    if limit == "max_gpu_seconds":
        if paused:
            shorter = Say(
                "Its own limit stays: make a shorter variation, or one with a higher limit."
            )
            return "", [shorter, Cancel(job.id)]
        return "", [RaiseLimit((job.cap_gpu_ms or 0) + missing_gpu_ms), *less]
    if limit == "month":
        another = ChangePlan(month.account_id)
        if month.limit_gpu_ms is not None and needed_gpu_ms > month.limit_gpu_ms:
            return "A whole month of this plan has less than that.", [*less, another]
        return "", [WaitForMonth(monthly.next_month(month)), *less, another]
    return _top_up(farm, job, session, month, missing_gpu_ms, less)


def _top_up(
    farm: Farm, job: Job, session: Session, month: Month, missing_gpu_ms: int, less: list[Remedy]
) -> tuple[str, list[Remedy]]:
    paused = job.state is JobState.PAUSED
    another = ChangePlan(month.account_id)
    top_up = TopUp(session.id, session.name, missing_gpu_ms, goes_on=paused)
    plan = farm.plans.get(month.plan)
    most = plan.most_session_gpu_ms if plan else None
    gain = missing_gpu_ms - ledger.pending_gpu_ms(session)
    if plan and most is not None and session.limit_gpu_ms + gain > most:
        besides = f"The plan {plan.name} allows a session no more than {most / 1000:g} GPU-seconds."
        return besides, [another, *([] if paused else [OpenSession()]), *less]
    left = month.available_gpu_ms
    if left is not None and session.available_gpu_ms + gain > left:
        besides = f"The account's month has {left / 1000:.3f} left: more takes another plan, too."
        return besides, [replace(top_up, goes_on=False), another, *less]
    return "", [top_up, *less]
