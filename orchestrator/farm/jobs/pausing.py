"""Stopping and going on: what a paused job keeps, and what it takes to resume it."""

from orchestrator.errors import BudgetExceeded, Conflict
from orchestrator.farm.books import alerts, months, pacing
from orchestrator.farm.jobs import exhaustion, shortage
from orchestrator.farm.jobs.loaded_job import LoadedJob
from orchestrator.farm.kernel import Farm
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.model import Allowance, Job
from orchestrator.money import ledger
from orchestrator.remedies import Cancel, Pause, Rerun, Resume
from orchestrator.states import (
    JobEvent,
    JobState,
    OnExhausted,
    PauseReason,
    UnitKind,
    UnitState,
)


def resume(loaded: LoadedJob) -> None:
    """Hold what the rest of a paused job needs, or as much as there is, and queue it.

    Raises:
        BudgetExceeded: not even its next unit fits; says what holds it, and the way out.
        Conflict: the job is not paused.
    """
    if loaded.job.state is not JobState.PAUSED:
        raise Conflict(f"Only a paused job can be resumed; this one is {loaded.job.state}.")
    try:
        _resume(loaded)
    except BudgetExceeded as refused:
        session, job = loaded.books.session, loaded.job
        month = months.current(loaded.farm, loaded.tx, job.account_id, loaded.now_ms)
        if job.month_id == month.id:
            month = (
                loaded.books.month
            )  # as it has become here; else it could not take over the hold
        raise shortage.explained(loaded.farm, loaded.tx, refused, job, session, month) from None


def _resume(loaded: LoadedJob) -> None:
    """Resume a paused job, or raise the bare refusal: many are tried where few are told why."""
    month = months.current(loaded.farm, loaded.tx, loaded.job.account_id, loaded.now_ms)
    units = loaded.units(state=(UnitState.READY, UnitState.LEASED))
    loaded.books.carry(month)
    alerts.check_rest(loaded.farm, loaded.tx, loaded.books.session, month, loaded.job, units)
    books = loaded.books
    room = ledger.extendable_gpu_ms(books.session, books.job, books.month, books.allowance)
    least = ledger.least_gpu_ms(loaded.job, units)
    rest = pacing.rest_gpu_ms(loaded.farm, loaded.tx, loaded.job, units)
    if least - loaded.job.held_gpu_ms > room:
        raise shortage.for_rest(
            books.session, books.job, books.month, books.allowance, units, rest_gpu_ms=rest
        )
    loaded.join()
    # A unit that was stopped in vain has a floor above its p90.
    need = max(least, rest) - loaded.job.held_gpu_ms
    if need > 0 and room:
        loaded.books.hold(min(need, room))
    loaded.step(JobEvent.RESUME, pause_reason=None, resumed_at_ms=loaded.now_ms)


def finish(loaded: LoadedJob) -> bool:
    """End a paused job with its finished frames: its reserve, held since, makes the video.

    The hold stays in the month in which it is. Doing it again changes nothing, and returns False.

    Raises:
        Conflict: the job is not paused, or has no finished frame.
        BudgetExceeded: all its frames are there, and the video needs more than there is.
    """
    job = loaded.job
    ended = job.state in (JobState.CANCELLED, JobState.FAILED)
    if job.truncated and job.state is not JobState.PAUSED and not ended:
        return False
    if job.state is not JobState.PAUSED:
        raise Conflict(
            f"Only a paused job can be finished early; this one is {job.state}.",
            Rerun(job.id) if job.state.is_terminal else Pause(job.id),
        )
    if not job.frames_done:
        raise Conflict(
            "It has no finished frame to make a video of.",
            Resume(job.id),
            Cancel(job.id),
        )
    if encode := loaded.units(kind=UnitKind.ENCODE, state=UnitState.READY):
        if job.held_gpu_ms < ledger.least_gpu_ms(job, encode):
            resume(loaded)
        else:  # it was on its way to its video, which is paid for
            loaded.join()
            loaded.step(JobEvent.ENCODE, pause_reason=None, resumed_at_ms=loaded.now_ms)
    else:
        loaded.join()
        exhaustion.finish(loaded)
    return True


def _ends_short(loaded: LoadedJob) -> bool:
    """Do what a job asked for at its own cap, if an alert had paused it before; tell whether so."""
    rest = loaded.units(kind=UnitKind.RENDER, state=UnitState.READY)
    wants = loaded.job.on_exhausted
    books = loaded.books
    limit = ledger.binding_limit(books.session, books.job, books.month, books.allowance)
    if not rest or wants is OnExhausted.PAUSE or limit != "max_gpu_seconds":
        return False
    if wants is OnExhausted.FINISH and not loaded.job.frames_done:
        return False
    loaded.join()
    exhaustion.exhausted(loaded, rest[0])
    return True


def resume_for_budget(farm: Farm, tx: Transaction, session_id: str, now_ms: int) -> None:
    """Let the session's jobs go on that were paused for budget, oldest first, while it lasts."""
    waiting = tx.find(
        Job, session_id=session_id, state=JobState.PAUSED, pause_reason=PauseReason.BUDGET
    )
    for allowance_id in sorted({job.allowance_id for job in waiting if job.allowance_id}):
        tx.get(Allowance, allowance_id, lock=True)  # before any month is
    for job in waiting:
        loaded = LoadedJob(farm, tx, job.id, job.session_id, now_ms)
        try:
            _resume(loaded)
        except BudgetExceeded as refused:
            if "alert_percent" in refused.data or not _ends_short(loaded):
                continue
        loaded.close()
