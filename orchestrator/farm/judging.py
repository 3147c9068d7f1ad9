"""What a worker's reports say of the worker: whom it failed, and what it leaves unexplained."""

from dataclasses import replace
from typing import Final

from orchestrator.farm import fleet, scheduling
from orchestrator.farm.case import Case
from orchestrator.model import Lease, Worker
from orchestrator.states import Cause, Outcome, WorkerState
from orchestrator.wire import CompleteRequest

QUARANTINE_AFTER: Final = 3
"""Sessions whose units a worker failed in a row, or flags, before an operator must look at it."""
UNEXPLAINED_SHARE: Final = 0.05
UNEXPLAINED_MS: Final = 2_000
"""Of the time the farm saw a worker busy, so much may be on no line of its report."""


def judge(case: Case, lease: Lease, worker: Worker, request: CompleteRequest) -> None:
    """Remember a worker's failures over several sessions, and its flags.

    Its next success forgets the failures; flags stay until an operator admits it again.
    """
    judged = scheduling.worked(case, worker, lease)
    judged = replace(judged, metered_to_ms=_metered_to(lease, worker))
    if request.outcome is not Outcome.FAILED:
        judged = replace(judged, blamed=(), flags=worker.flags + unexplained(case, lease, request))
    elif request.cause is Cause.WORKER:  # neither a request nor our own bug is its fault
        blamed = tuple(dict.fromkeys((*worker.blamed, lease.session_id)))
        judged = replace(judged, blamed=blamed)
    if max(len(judged.blamed), judged.flags) >= QUARANTINE_AFTER:
        judged = replace(judged, state=WorkerState.QUARANTINED)
    case.tx.save(worker, judged)
    if judged.state is not worker.state:
        fleet.tell_trouble(case.farm, case.tx, judged, case.now_ms)


def seen_ms(lease: Lease, worker: Worker, now_ms: int) -> int:
    """Return the device time of a lease that the farm saw and that no other lease was charged."""
    return max(0, now_ms - max(lease.granted_at_ms, worker.metered_to_ms))


def unexplained(case: Case, lease: Lease, request: CompleteRequest) -> bool:
    """Tell whether a report leaves more than 5 % of its lease's busy time on no line of it.

    A worker is busy from its grant to its last heartbeat; what is under two seconds is the
    network's. Every second of it was some stage's on the device, or the host's: files fetched,
    written and sent, a process started.
    """
    receipt = request.receipt
    heard_at_ms = lease.expires_at_ms - case.farm.terms.lease_ms
    busy = heard_at_ms - lease.granted_at_ms
    told = receipt.gpu_ms + receipt.wasted_gpu_ms + receipt.load_gpu_ms
    told += sum(receipt.host_ms.values())
    return busy - told > max(UNEXPLAINED_MS, UNEXPLAINED_SHARE * busy)


def _metered_to(lease: Lease, worker: Worker) -> int:
    """Return up to when the worker's device time is charged, its leases end to end."""
    return max(lease.granted_at_ms, worker.metered_to_ms) + lease.settled_gpu_ms
