"""The operator's policy: what it ruled on a prompt and on a video's frames, kept on the job.

Asking it takes a while and may fail, so that happens before these transactions, in the process
that asks (`web.policy`). Here a ruling is kept and obeyed.
"""

from dataclasses import replace
from typing import Final

from orchestrator.errors import PolicyRefused, Unavailable
from orchestrator.farm.jobs.admission import FRAMES
from orchestrator.farm.jobs.loaded_job import LoadedJob
from orchestrator.farm.kernel import Farm
from orchestrator.model import Job, JobError, Lease, Ruling
from orchestrator.states import JobEvent, LeaseState, Outcome, UnitKind
from orchestrator.wire import CompleteRequest

TRIES: Final = 8
"""Of a policy that fails, before its job does: a minute or so, as workers ask again."""


def to_judge(farm: Farm, worker_id: str, request: CompleteRequest) -> tuple[Job, Lease] | None:
    """Return the job whose video this report brings, if its frames are to be judged first."""
    if not farm.terms.judges_frames or request.outcome is not Outcome.DONE:
        return None
    with farm.store.read() as tx:
        lease = tx.get(Lease, request.lease_id)
        if lease is None or lease.worker_id != worker_id or lease.fence != request.fence:
            return None
        if lease.state is not LeaseState.OPEN or lease.kind is not UnitKind.ENCODE:
            return None
        job = tx.get(Job, lease.job_id)
        assert job, "rows are never deleted"
        return job, lease


def keep(farm: Farm, lease: Lease, ruling: Ruling) -> None:
    """Keep what was ruled on the frames that a lease made; its completion obeys it.

    Raises:
        Unavailable: the policy failed where it must not, and is to be asked again.
    """
    with farm.store.write() as tx:
        loaded = LoadedJob(farm, tx, lease.job_id, lease.session_id, farm.clock())
        before = loaded.job.rulings.get(FRAMES)
        kept = replace(ruling, lease_id=lease.id, tries=1 + (before.tries if before else 0))
        loaded.change(rulings={**loaded.job.rulings, FRAMES: kept})
        loaded.close()
    if ruling.error and not ruling.allowed and kept.tries < TRIES:
        raise Unavailable("The frames could not be judged yet.", next="Complete it again.")


def publishes(loaded: LoadedJob, lease: Lease) -> bool:
    """Tell whether a finished video may be published; end its job if not.

    What was rendered is charged as it is: the device did the work.
    """
    if not loaded.farm.terms.judges_frames:
        return True
    ruling = loaded.job.rulings.get(FRAMES)
    assert ruling and ruling.lease_id == lease.id, "web judges before it completes"
    if ruling.allowed:
        return True
    loaded.change(intent=None)
    loaded.end(JobEvent.FAIL, error=_error(ruling))
    return False


def _error(ruling: Ruling) -> JobError:
    if ruling.error:
        return JobError(
            code="policy_unavailable",
            message="The operator's policy could not judge the frames, so they are withheld.",
            next="Ask the operator; `farm jobs rerun` makes the video again.",
        )
    refused = PolicyRefused(f"The operator's policy refused the frames: {ruling.reason}")
    return JobError(code=refused.code, message=refused.message, next=refused.next)
