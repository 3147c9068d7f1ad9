"""Virtual time of sessions: joining the farm's queue without old credit."""

from dataclasses import replace

from orchestrator import scheduler
from orchestrator.farm.case import Case


def join(case: Case) -> None:
    """Bring a session that had no work to the current virtual time before it gets some.

    What paused jobs keep held is no work: their session would come back with its old pass.
    """
    session, own = case.session, case.job.id
    if not case.tx.is_at_work(session.id, but=own):
        joined = scheduler.join_pass(session, case.tx.current_pass(but=own))
        case.session = replace(session, pass_gpu_ms=joined)
