"""Steering a job: pause, resume, finish early, cancel."""

from orchestrator.errors import Conflict
from orchestrator.farm.books import alerts
from orchestrator.farm.jobs import pausing
from orchestrator.farm.jobs.loaded_job import Case
from orchestrator.farm.kernel import Farm, audit_log
from orchestrator.farm.kernel.owned import own_job
from orchestrator.model import Job
from orchestrator.states import JobState, Wish


def pause(farm: Farm, account_id: str | None, job_id: str) -> Job:
    """Pause a job once its open leases have stopped; finished frames are kept."""
    return _wish(farm, account_id, job_id, Wish.PAUSE)


def cancel(farm: Farm, account_id: str | None, job_id: str) -> Job:
    """End a job once its open leases have stopped; the steps done are charged."""
    return _wish(farm, account_id, job_id, Wish.CANCEL)


def resume(farm: Farm, account_id: str | None, job_id: str) -> Job:
    """Let a paused job go on, or take back a pause that has not come about yet."""
    with farm.store.write() as tx:
        job = own_job(tx, account_id, job_id)
        case = Case(farm, tx, job_id, job.session_id, farm.clock())
        if case.job.wish is Wish.PAUSE:
            case.change(wish=None)
        else:
            pausing.resume(case)
        audit_log.of_operator(farm, tx, account_id, "job.resume", job_id, job.account_id)
        return case.close()


def finish(farm: Farm, account_id: str | None, job_id: str) -> Job:
    """End a paused job with a video of its finished frames, out of its encode reserve."""
    with farm.store.write() as tx:
        job = own_job(tx, account_id, job_id)
        case = Case(farm, tx, job_id, job.session_id, farm.clock())
        if pausing.finish(case):
            alerts.look(case)
            audit_log.of_operator(farm, tx, account_id, "job.finish", job_id, job.account_id)
        return case.close()


def _wish(farm: Farm, account_id: str | None, job_id: str, wish: Wish) -> Job:
    with farm.store.write() as tx:
        job = own_job(tx, account_id, job_id)
        case = Case(farm, tx, job_id, job.session_id, farm.clock())
        if case.job.state.is_terminal or (
            wish is Wish.PAUSE and (case.job.state is JobState.PAUSED or case.job.wish)
        ):
            raise Conflict(f"A job that is {case.job.wish or case.job.state} cannot {wish}.")
        case.change(wish=wish)
        case.grant_wish()
        alerts.look(case)  # a limit that was to be lower may have sunk
        audit_log.of_operator(farm, tx, account_id, f"job.{wish}", job_id, job.account_id)
        return case.close()
