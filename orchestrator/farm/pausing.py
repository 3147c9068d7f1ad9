"""Stopping and going on: what a paused job keeps, and what it takes to resume it."""

from orchestrator import ledger
from orchestrator.errors import BudgetExceeded, Conflict
from orchestrator.farm import Farm, alerts, months, scheduling, shortage
from orchestrator.farm.case import Case
from orchestrator.farm.ports import Transaction
from orchestrator.model import Job
from orchestrator.states import JobEvent, JobState, PauseReason, UnitState


def resume(case: Case) -> None:
    """Hold what the rest of a paused job needs, or as much as there is, and queue it.

    Raises:
        BudgetExceeded: not even its next unit fits.
        Conflict: the job is not paused.
    """
    if case.job.state is not JobState.PAUSED:
        raise Conflict(f"Only a paused job can be resumed; this one is {case.job.state}.")
    month = months.current(case.farm, case.tx, case.job.account_id, case.now_ms)
    try:
        case.carry(month)
        alerts.check(case.farm, case.session, month, when=("pause_all",))
    except BudgetExceeded as stopped:
        session, job = case.session, case.job
        raise shortage.explained(case.farm, case.tx, stopped, job, session, month) from None
    room = ledger.extendable_gpu_ms(case.session, case.job, case.month)
    units = case.units(state=(UnitState.READY, UnitState.LEASED))
    least = shortage.least_gpu_ms(case.job, units)
    books = (case.session, case.job, case.month)
    if least - case.job.held_gpu_ms > room:
        refused = shortage.for_rest(*books, units)
        session, job, month = books
        raise shortage.explained(case.farm, case.tx, refused, job, session, month)
    scheduling.join(case)
    # A unit that was stopped in vain has a floor above its p90.
    need = max(least, shortage.rest_gpu_ms(case.job, units)) - case.job.held_gpu_ms
    if need > 0 and room:
        case.hold(min(need, room))
    case.step(JobEvent.RESUME, pause_reason=None)


def resume_for_budget(farm: Farm, tx: Transaction, session_id: str, now_ms: int) -> None:
    """Let the session's jobs go on that were paused for budget, oldest first, while it lasts."""
    waiting = tx.find(
        Job, session_id=session_id, state=JobState.PAUSED, pause_reason=PauseReason.BUDGET
    )
    for job in waiting:
        case = Case(farm, tx, job.id, job.session_id, now_ms)
        try:
            resume(case)
        except BudgetExceeded:
            continue
        case.close()
