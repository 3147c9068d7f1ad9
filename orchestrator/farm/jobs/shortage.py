"""Refusals for want of budget: the limit, what holds it until when, and what helps."""

from collections.abc import Mapping
from typing import Final, TypedDict, TypeVar, Unpack

from orchestrator.errors import BudgetExceeded, PlanLimit
from orchestrator.farm.books import alerts, months, pacing, session_limits
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
from orchestrator.states import (
    JobState,
    LeaseState,
    PauseReason,
    SessionState,
    UnitKind,
    UnitState,
)

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
    stopped = "alert_percent" in refused.data
    missing = max(0, needed - room) + (_sinking(session) if limit == "session" else 0)
    holders = [] if stopped else _holders(tx, job, session, month, limit)
    lacks = _lacking(farm, tx, job, session, month, allowance, needed_gpu_ms=needed)
    lacks |= {limit: max(missing, lacks.get(limit, 0))}
    besides, remedies = _way_out(
        farm, tx, job, session, month, lacks, limit=limit, needed_gpu_ms=0 if stopped else needed
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
        "limits": sorted(lacks, key=lambda each: (each != limit, each)),
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


def _sinking(session: Session) -> int:
    """Return what of a top-up goes first into the rest of a limit that is to sink."""
    return ledger.pending_gpu_ms(session)


def _lacking(
    farm: Farm,
    tx: Transaction,
    job: Job,
    session: Session,
    month: Month,
    allowance: Allowance | None,
    *,
    needed_gpu_ms: int,
) -> dict[str, int]:
    """Return which limits are in the way of all that is left of a job, and what each lacks.

    A limit that has enough now and an alert that would stop the job on its way are in it too.
    """
    if session.state is not SessionState.OPEN:
        return {}
    paused = job.state is JobState.PAUSED
    units = tx.find(Unit, job_id=job.id, state=(UnitState.READY, UnitState.LEASED))
    more = needed_gpu_ms
    if paused:
        rest = pacing.rest_gpu_ms(farm, tx, job, units)
        more = max(ledger.least_gpu_ms(job, units), rest) - job.held_gpu_ms
    rooms = ledger.rooms(session, job, month, allowance)
    lacks = {limit: more - room for limit, room in rooms.items() if room < more}
    if paused and any(unit.kind is not UnitKind.ENCODE for unit in units):
        spends = more + job.held_gpu_ms
        for limit, budget in (("session", session), ("month", month)):
            if (gain := alerts.gain_gpu_ms(farm, budget, month, spends)) > 0:
                lacks[limit] = max(gain, lacks.get(limit, 0))
    if "session" in lacks:
        lacks["session"] += _sinking(session)
    return lacks


def _way_out(
    farm: Farm,
    tx: Transaction,
    job: Job,
    session: Session,
    month: Month,
    lacks: Mapping[str, int],
    *,
    limit: str,
    needed_gpu_ms: int,
) -> tuple[str, list[Remedy]]:
    """Return what helps, the best first, and what else is to be known for it.

    `lacks`: by each limit in the way what it has too little; `limit`: the one that was met.
    """
    paused = job.state is JobState.PAUSED
    less: list[Remedy] = [] if paused else [AskForLess()]
    if limit == "session_closed":
        opened = session_limits.when_closed(tx, session)
        return "A closed session gives no more.", [*(opened[:1] if paused else opened)]
    others = [each for each in _ORDER if each in lacks and each != limit]
    told = [_also(tx, job, session, month, each) for each in others]
    if paused and "max_gpu_seconds" in lacks:  # whatever else is given, it ends there
        shorter = Say("Its own limit stays: make a shorter variation, or one with a higher limit.")
        return " ".join(told), [shorter, Cancel(job.id)]
    alone = not others
    remedies: list[Remedy] = []
    for each in (*others, limit) if paused else (limit, *others):
        if each == "max_gpu_seconds":
            remedies.append(RaiseLimit((job.cap_gpu_ms or 0) + lacks[each]))
        elif each == "key":
            allowance = tx.get(Allowance, job.allowance_id)
            assert allowance, "it binds"
            enough = allowance.limit_gpu_ms + lacks[each]
            remedies.append(RaiseAllowance(allowance.id, enough, goes_on=paused and alone))
        elif each == "month":
            words, ways = _more_of_month(month, needed_gpu_ms, met=each == limit)
            told += words
            remedies += ways
        else:
            words, ways = _top_up(farm, tx, job, session, month, lacks[each], alone=alone)
            told += words
            remedies += ways
    remedies = list(dict.fromkeys(remedies))
    another = ChangePlan(month.account_id)  # more than one may wish to pay for
    last = remedies.index(another) if limit == "month" and another in remedies else len(remedies)
    return " ".join(told), [*remedies[:last], *less, *remedies[last:]]


_ORDER: Final = ("max_gpu_seconds", "month", "key", "session")
"""Of several limits in the way beside the one that was met, in which order they are named: what a
paused job is told first is what more of that one would not help."""


def _also(tx: Transaction, job: Job, session: Session, month: Month, limit: str) -> str:
    """Return what is to be known of a limit that is in the way beside the one that was met."""
    room = ledger.rooms(session, job, month, tx.get(Allowance, job.allowance_id))[limit] / 1000
    return {
        "max_gpu_seconds": f"Its own max_gpu_seconds allows {room:.3f} more, which is too little.",
        "month": f"The account's month has {room:.3f} left: more takes another plan, too.",
        "key": f"The allowance of its key has {room:.3f} left, which is too little, too.",
        "session": f"Session {session.name!r} has {room:.3f} left, which is too little, too.",
    }[limit]


def _more_of_month(
    month: Month, needed_gpu_ms: int, *, met: bool
) -> tuple[list[str], list[Remedy]]:
    another = ChangePlan(month.account_id)
    if not met:
        return [], [another]
    if month.limit_gpu_ms is not None and needed_gpu_ms > month.limit_gpu_ms:
        return ["A whole month of this plan has less than that."], [another]
    return [], [WaitForMonth(monthly.next_month(month)), another]


def _top_up(
    farm: Farm,
    tx: Transaction,
    job: Job,
    session: Session,
    month: Month,
    missing_gpu_ms: int,
    *,
    alone: bool,
) -> tuple[list[str], list[Remedy]]:
    """Return the top-up that is enough for all that is left of a job, where its plan allows it.

    `alone`: no other limit is in the way.
    """
    paused = job.state is JobState.PAUSED
    before = _wanted_before(farm, tx, job) if paused else 0
    missing_gpu_ms += before
    plan = farm.plans.get(month.plan)
    most = plan.most_session_gpu_ms if plan else None
    gain = missing_gpu_ms - _sinking(session)
    if plan and most is not None and session.limit_gpu_ms + gain > most:
        besides = f"The plan {plan.name} allows a session no more than {most / 1000:g} GPU-seconds."
        return [besides], [ChangePlan(month.account_id), *([] if paused else [OpenSession()])]
    told = []
    if before:
        told = [f"Older jobs that wait for budget go on first and need {before / 1000:.3f} of it."]
    return told, [TopUp(session.id, session.name, missing_gpu_ms, goes_on=paused and alone)]


def _wanted_before(farm: Farm, tx: Transaction, job: Job) -> int:
    """Return what older jobs of its session take of a top-up before this one goes on."""
    waiting = tx.find(
        Job,
        session_id=job.session_id,
        state=JobState.PAUSED,
        pause_reason=PauseReason.BUDGET,
        limit=HOLDERS,
    )
    wanted = 0
    for other in waiting:
        if other.id >= job.id:
            continue
        units = tx.find(Unit, job_id=other.id, state=(UnitState.READY, UnitState.LEASED))
        rest = pacing.rest_gpu_ms(farm, tx, other, units)
        wanted += max(0, max(ledger.least_gpu_ms(other, units), rest) - other.held_gpu_ms)
    return wanted
