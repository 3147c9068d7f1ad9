"""Judging a worker by its reports: units it failed, and time it leaves unexplained."""

from dataclasses import replace
from typing import Final

from orchestrator.farm.jobs.loaded_job import LoadedJob
from orchestrator.farm.leases import fair_share, fleet
from orchestrator.model import Lease, Worker
from orchestrator.states import Cause, Outcome, WorkerState
from orchestrator.wire import CompleteRequest

QUARANTINE_AFTER: Final = 3
"""Sessions whose units a worker failed in a row, or flags, before an operator must look at it."""
UNEXPLAINED_SHARE: Final = 0.05
"""Of the time the farm saw a worker busy, so much may be on no line of its report."""
UNEXPLAINED_MS: Final = 2_000
"""And so much more in all the reports since its last flag: the network's."""
SILENT_BEATS: Final = 2
"""Heartbeats that may be missing at the end before a worker counts as busy until its report."""


def judge(
    loaded: LoadedJob,
    lease: Lease,
    worker: Worker,
    request: CompleteRequest,
    *,
    is_refuted: bool = False,
) -> None:
    """Remember a worker's failures over several sessions, and its flags.

    Its next success forgets the failures; flags stay until an operator admits it again. Whoever
    failed for no fault of the request has no full report to give, and is paid nothing. Who said
    `done` of what was not what it was is flagged for that.
    """
    judged = fair_share.worked(loaded, worker, lease)
    judged = replace(judged, metered_to_ms=_metered_to(lease, worker))
    if request.outcome is not Outcome.FAILED or request.cause is Cause.REQUEST:
        judged = _weighed(judged, unexplained_ms(loaded, lease, request))
    if is_refuted:
        judged = replace(judged, flags=judged.flags + 1)
    if request.outcome is not Outcome.FAILED:
        judged = replace(judged, blamed=())
    elif request.cause is Cause.WORKER:  # neither a request nor our own bug is its fault
        blamed = tuple(dict.fromkeys((*worker.blamed, lease.session_id)))
        judged = replace(judged, blamed=blamed)
    if max(len(judged.blamed), judged.flags) >= QUARANTINE_AFTER:
        judged = replace(judged, state=WorkerState.QUARANTINED)
    loaded.tx.save(worker, judged)
    if judged.state is not worker.state:
        fleet.tell_trouble(loaded.farm, loaded.tx, judged, loaded.now_ms)


def seen_ms(lease: Lease, worker: Worker, now_ms: int) -> int:
    """Return the device time of a lease that the farm saw and that no other lease was charged."""
    return max(0, now_ms - max(lease.granted_at_ms, worker.metered_to_ms))


def unexplained_ms(loaded: LoadedJob, lease: Lease, request: CompleteRequest) -> int:
    """Return what a report leaves on no line of it, beyond 5 % of its lease's busy time.

    A worker is busy from its grant to its last heartbeat, or until now where it was silent since.
    Every second of it was some stage's on the device, or the host's: files fetched, written and
    sent, a process started. Negative where it explains more.
    """
    receipt, terms = request.receipt, loaded.farm.terms
    heard_at_ms = lease.expires_at_ms - terms.lease_ms
    silent_ms = loaded.now_ms - heard_at_ms
    is_silent = silent_ms > SILENT_BEATS * 1000 * terms.heartbeat_seconds
    busy = (loaded.now_ms if is_silent else heard_at_ms) - lease.granted_at_ms
    told = receipt.gpu_ms + receipt.wasted_gpu_ms + receipt.load_gpu_ms
    told += sum(receipt.host_ms.values())
    return round((1 - UNEXPLAINED_SHARE) * busy) - told


def _weighed(worker: Worker, unexplained_ms: int) -> Worker:
    """Add a report to a worker's account, which a report that explains more empties again.

    What passes the allowance is a flag, and the account begins anew.
    """
    open_ms = max(0, worker.unexplained_ms + unexplained_ms)
    if open_ms > UNEXPLAINED_MS:
        return replace(worker, unexplained_ms=0, flags=worker.flags + 1)
    return replace(worker, unexplained_ms=open_ms)


def _metered_to(lease: Lease, worker: Worker) -> int:
    """Return up to when the worker's device time is charged, its leases end to end."""
    return max(lease.granted_at_ms, worker.metered_to_ms) + lease.settled_gpu_ms
