"""Why a job that could go on does not: the first thing in its way, and what moves it."""

from dataclasses import dataclass
from typing import Final

from orchestrator import ledger, scheduler
from orchestrator.errors import BudgetExceeded
from orchestrator.farm import Farm, alerts, grants, months, shortage
from orchestrator.farm.ports import Transaction
from orchestrator.model import Job, Lease, Session, Unit, Worker
from orchestrator.states import JobState, LeaseState, PauseReason, UnitState, WorkerState

LOOKED_AT: Final = 100
"""Sessions counted before this one; more are a crowd."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What a job waits for, in a word and in a sentence, and what to do about it."""

    code: str
    what: str
    next: str


def reason(farm: Farm, job: Job) -> Waiting | None:
    """Return why a job waits; None while it runs, is about to stop, or has ended."""
    if job.state.is_terminal or job.wish is not None:
        return None
    with farm.store.read() as tx:
        session = tx.get(Session, job.session_id)
        assert session, "rows are never deleted"
        if job.state is JobState.PAUSED:
            return _paused(farm, tx, job, session)
        if tx.find(Lease, job_id=job.id, state=LeaseState.OPEN, limit=1):
            return None
        return _queued(farm, tx, job, session)


def _paused(farm: Farm, tx: Transaction, job: Job, session: Session) -> Waiting:
    again = f"`farm jobs resume {job.id}`"
    if job.pause_reason is not PauseReason.BUDGET:
        return Waiting(code="user", what="It was paused.", next=f"Let it go on with {again}.")
    month = months.seen(farm, tx, job.account_id, farm.clock())
    units = tx.find(Unit, job_id=job.id, state=(UnitState.READY, UnitState.LEASED))
    try:
        alerts.check(farm, session, month, when=("pause_all",))
    except BudgetExceeded as stop:
        stopped = shortage.explained(farm, tx, stop, job, session, month)
        return Waiting(code="budget", what=stopped.message, next=stopped.next)
    room = ledger.extendable_gpu_ms(session, job, month)
    if shortage.least_gpu_ms(job, units) - job.held_gpu_ms <= room:
        return Waiting(
            code="budget",
            what="It was paused for want of budget, and there is enough again.",
            next=f"Let it go on with {again}.",
        )
    lacking = shortage.for_rest(session, job, month, units)
    refused = shortage.explained(farm, tx, lacking, job, session, month)
    return Waiting(code="budget", what=refused.message, next=refused.next)


def _queued(farm: Farm, tx: Transaction, job: Job, session: Session) -> Waiting | None:
    month = months.seen(farm, tx, job.account_id, farm.clock())
    if grants.is_frozen(tx):
        return Waiting(
            code="frozen",
            what="The operator has stopped all spending on this farm.",
            next="It goes on by itself when the operator lifts that: `farm freeze --off`.",
        )
    if not month.tier:
        return Waiting(
            code="plan",
            what="The account has no plan, so nothing may run.",
            next=f"Have the operator give it one: `farm account set-plan {job.account_id} PLAN`.",
        )
    queues = {unit.queue for unit in tx.find(Unit, job_id=job.id, state=UnitState.READY)}
    if not queues:
        return None
    serving = [
        worker
        for worker in tx.find(Worker, state=WorkerState.ACTIVE)
        if queues & set(scheduler.queues_of(worker.kinds, worker.models))
    ]
    if not serving:
        return Waiting(
            code="worker",
            what=f"No worker that is there serves {' or '.join(sorted(queues))}.",
            next="Have the operator start one: `farm worker run`; `farm worker ls` shows them.",
        )
    ahead = [each.id for each in tx.sessions_with_work(sorted(queues), LOOKED_AT)]
    place = ahead.index(session.id) if session.id in ahead else len(ahead)
    before = f"{place} other session{'s are' if place != 1 else ' is'} before its own"
    return Waiting(
        code="device",
        what=f"It waits for a free device; {before if place else 'its session is next'}.",
        next=f"It goes on by itself; follow it with `farm jobs watch {job.id}`.",
    )
