"""Steering a job: pause, resume, finish early, cancel."""

from orchestrator.errors import Conflict
from orchestrator.farm.books import alerts
from orchestrator.farm.jobs import pausing
from orchestrator.farm.jobs.loaded_job import LoadedJob
from orchestrator.farm.kernel import Farm, audit_log
from orchestrator.farm.kernel.owned import own_job
from orchestrator.model import Job
from orchestrator.states import Intent, JobState


def pause(farm: Farm, account_id: str | None, job_id: str) -> Job:
    """Pause a job once its open leases have stopped; finished frames are kept."""
    return _intend(farm, account_id, job_id, Intent.PAUSE)


def cancel(farm: Farm, account_id: str | None, job_id: str) -> Job:
    """End a job once its open leases have stopped; the steps done are charged."""
    return _intend(farm, account_id, job_id, Intent.CANCEL)


def resume(farm: Farm, account_id: str | None, job_id: str) -> Job:
    """Let a paused job go on, or take back a pause that has not come about yet."""
    with farm.store.write() as tx:
        job = own_job(tx, account_id, job_id)
        loaded = LoadedJob(farm, tx, job_id, job.session_id, farm.clock())
        if loaded.job.intent is Intent.PAUSE:
            loaded.change(intent=None)
        else:
            pausing.resume(loaded)
        audit_log.of_operator(farm, tx, account_id, "job.resume", job_id, job.account_id)
        return loaded.close()


def finish(farm: Farm, account_id: str | None, job_id: str) -> Job:
    """End a paused job with a video of its finished frames, out of its encode reserve."""
    with farm.store.write() as tx:
        job = own_job(tx, account_id, job_id)
        loaded = LoadedJob(farm, tx, job_id, job.session_id, farm.clock())
        if pausing.finish(loaded):
            alerts.look(loaded.books)
            audit_log.of_operator(farm, tx, account_id, "job.finish", job_id, job.account_id)
        return loaded.close()


def _intend(farm: Farm, account_id: str | None, job_id: str, intent: Intent) -> Job:
    with farm.store.write() as tx:
        job = own_job(tx, account_id, job_id)
        loaded = LoadedJob(farm, tx, job_id, job.session_id, farm.clock())
        if loaded.job.state.is_terminal or (
            intent is Intent.PAUSE and (loaded.job.state is JobState.PAUSED or loaded.job.intent)
        ):
            raise Conflict(
                f"A job that is {loaded.job.intent or loaded.job.state} cannot {intent}."
            )
        loaded.change(intent=intent)
        loaded.carry_out()
        alerts.look(loaded.books)  # a limit that was to be lower may have sunk
        audit_log.of_operator(farm, tx, account_id, f"job.{intent}", job_id, job.account_id)
        return loaded.close()
