"""Virtual time of sessions: joining the farm's queue without old credit."""

from dataclasses import replace

from orchestrator import scheduler
from orchestrator.farm.case import Case
from orchestrator.model import Job
from orchestrator.states import RUNNABLE


def join(case: Case) -> None:
    """Bring a session that had no work to the current virtual time before it gets some.

    What paused jobs keep held is no work: their session would come back with its old pass.
    """
    session, own = case.session, case.job.id
    at_work = case.tx.find(Job, session_id=session.id, state=tuple(RUNNABLE), limit=2)
    if all(job.id == own for job in at_work):
        joined = scheduler.join_pass(session, case.tx.current_pass(but=own))
        case.session = replace(session, pass_gpu_ms=joined)
