"""Virtual time of sessions: joining the farm's queue without old credit."""

from dataclasses import replace

from orchestrator import scheduler
from orchestrator.farm.case import Case


def join(case: Case) -> None:
    """Bring an idle session to the current virtual time before it holds budget again."""
    if case.session.held_gpu_ms == 0:
        joined = scheduler.join_pass(case.session, case.tx.current_pass())
        case.session = replace(case.session, pass_gpu_ms=joined)
