"""Checks of a worker's report: its lease is open and its own, and its outcome has what it needs."""

from typing import Final

from orchestrator.errors import BadRequest, StaleLease
from orchestrator.farm.jobs.loaded_job import LoadedJob
from orchestrator.farm.kernel import Farm, facts
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.model import Lease, RenderPlan, Unit
from orchestrator.planning.plan_json import digest_of
from orchestrator.receipt import Receipt
from orchestrator.remedies import Say
from orchestrator.states import (
    LeaseState,
    Outcome,
    UnitKind,
)
from orchestrator.wire import (
    CHECKPOINT,
    FILES_OF,
    CompleteRequest,
)

ROUNDING_MS: Final = 1
"""Of each stage: so much the stages of a report may be off its total together."""


def reported(
    farm: Farm, tx: Transaction, worker_id: str, request: CompleteRequest, now_ms: int
) -> Lease:
    """Return the lease that is reported of, open or completed before.

    Raises:
        StaleLease: it is not this worker's any more.
    """
    lease = tx.get(Lease, request.lease_id)
    if lease is None or lease.worker_id != worker_id or lease.fence != request.fence:
        raise StaleLease(lease_id=request.lease_id)
    if lease.state is LeaseState.COMPLETED:
        return lease
    late = now_ms > lease.expires_at_ms + farm.terms.grace_ms
    if lease.state is not LeaseState.OPEN or late or lease.epoch != facts.epoch(tx):
        raise StaleLease(lease_id=request.lease_id)
    return lease


def checked(loaded: LoadedJob, unit: Unit, request: CompleteRequest) -> RenderPlan | None:
    """Refuse a result that is not what its outcome says; return the plan of a parse unit."""
    receipt = request.receipt
    if (digests := len(receipt.frame_sha256)) != receipt.frames_done:
        raise BadRequest(
            f"The receipt has {digests} digests of {receipt.frames_done} frames.",
            Say("Send one for each kept frame; nothing was charged, the lease is still open."),
        )
    _adds_up(receipt)
    if request.outcome is Outcome.FAILED:
        if request.cause is None:
            raise BadRequest("A failed unit needs a cause.")
        return None
    if unit.kind is UnitKind.RENDER:
        whole = receipt.frames_done == unit.frames
        if receipt.frames_done > unit.frames or (request.outcome is Outcome.DONE and not whole):
            raise BadRequest(
                f"{receipt.frames_done} of {unit.frames} frames is not {request.outcome}."
            )
    elif receipt.frames_done:
        raise BadRequest(f"A unit of kind {unit.kind} has no frames.")
    missing = _wanted(unit, request) - {file.name for file in receipt.artifacts}
    if missing:
        raise BadRequest(f"The result lacks {', '.join(sorted(missing))}.")
    if unit.kind is not UnitKind.PARSE or request.outcome is not Outcome.DONE:
        return None
    plan = request.render_plan
    if plan is None or digest_of(plan) != loaded.job.quote.plan_sha256:
        raise BadRequest(
            "The plan is not the one that was quoted.",
            Say("Install the same version of Framefarm and its models on worker and farm."),
        )
    return plan


def _adds_up(receipt: Receipt) -> None:
    """Refuse stages that are not the time they are said to be of; each may be rounded."""
    told, total = sum(receipt.by_stage.values()), receipt.gpu_ms + receipt.wasted_gpu_ms
    if abs(told - total) > ROUNDING_MS * len(receipt.by_stage):
        raise BadRequest(
            f"by_stage adds up to {told} ms, gpu_ms and wasted_gpu_ms to {total} ms.",
            Say("Report the stages of that time; nothing was charged, the lease is still open."),
            errors=[{"field": "receipt.by_stage", "fault": f"adds up to {told}, not {total}"}],
        )


def _wanted(unit: Unit, request: CompleteRequest) -> frozenset[str]:
    """Return the names of the files that the result must have."""
    receipt = request.receipt
    kept = request.outcome is Outcome.DONE or receipt.frames_done
    files = FILES_OF[unit.kind] if kept else frozenset[str]()
    if not receipt.checkpoint_step:
        return files
    if unit.kind is not UnitKind.RENDER or request.outcome is not Outcome.STOPPED:
        raise BadRequest("Only a stopped render unit has a checkpoint.")
    return files | {CHECKPOINT}
