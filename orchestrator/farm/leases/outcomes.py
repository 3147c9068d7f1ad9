"""Effects of an accepted report on its unit and its job: done, split, tried again, failed."""

import math
from dataclasses import replace

from orchestrator.farm.books.costs import cost_model
from orchestrator.farm.jobs import policy
from orchestrator.farm.jobs.exhaustion import assemble
from orchestrator.farm.jobs.loaded_job import LoadedJob
from orchestrator.farm.leases import charges, checkpoints
from orchestrator.model import Checkpoint, FileRef, JobError, Lease, RenderPlan, Unit, Worker
from orchestrator.money import pricing
from orchestrator.remedies import Listing, LookAt, Rerun, Say
from orchestrator.states import (
    UNIT_FAILED,
    Cause,
    JobEvent,
    Outcome,
    UnitKind,
    UnitState,
)
from orchestrator.wire import (
    LIMIT,
    POSTER,
    SHEET,
    STRIP,
    VIDEO,
    CompleteRequest,
    render_queue,
)


def apply(
    loaded: LoadedJob,
    unit: Unit,
    lease: Lease,
    worker: Worker,
    request: CompleteRequest,
    plan: RenderPlan | None,
    point: Checkpoint | None,
) -> None:
    """Do to the unit and its job what the outcome means."""
    kept = request.receipt.frames_done if unit.kind is UnitKind.RENDER else 0
    if request.message == LIMIT and lease.gpu_ms_limit >= unit.p90_gpu_ms:
        # It was given what it should need and more: this device is slower than that.
        slower = replace(unit, p50_gpu_ms=2 * unit.p50_gpu_ms, p90_gpu_ms=2 * unit.p90_gpu_ms)
        unit = loaded.tx.save(unit, slower)
    match request.outcome:
        case Outcome.FAILED:
            _failed(loaded, unit, lease, request)
        case Outcome.STOPPED if kept and kept < unit.frames:
            _split(loaded, unit, lease, worker, kept, point)
        case Outcome.STOPPED if not kept:
            floor = unit.minimum_gpu_ms
            if request.message == LIMIT and not request.receipt.checkpoint_step:
                floor = max(floor, 2 * lease.gpu_ms_limit)  # it was too low to keep anything
            ready = replace(unit, state=UnitState.READY, minimum_gpu_ms=floor, checkpoint=point)
            loaded.tx.save(unit, replace(ready, rung_at_ms=None))
        case _:
            _done(loaded, unit, lease, worker, plan)


def _failed(loaded: LoadedJob, unit: Unit, lease: Lease, request: CompleteRequest) -> None:
    message = request.message or "The worker gave no reason."
    # Should it have failed because of where it went on, it starts again.
    unit = loaded.tx.save(unit, checkpoints.forgotten(unit))
    if request.cause is Cause.REQUEST:
        try_again(loaded, unit, lease, count=False, why=message)
        loaded.fail(
            JobError(
                code="request_failed",
                message=message,
                remedies=(
                    Say("Change the request as the message says; the GPU time used was charged."),
                ),
            )
        )
    else:
        try_again(loaded, unit, lease, count=True, why=message)


def try_again(loaded: LoadedJob, unit: Unit, lease: Lease, *, count: bool, why: str) -> None:
    """Make a unit ready again, and end its job when it has failed too often.

    `count`: the lease that ended counts as a failed attempt.
    """
    attempts = unit.attempts + count
    loaded.tx.save(
        unit,
        replace(
            unit,
            state=UnitState.READY,
            attempts=attempts,
            last_worker_id=lease.worker_id if count else unit.last_worker_id,
            rung_at_ms=None,
        ),
    )
    if attempts >= loaded.farm.terms.max_attempts:
        loaded.fail(
            JobError(
                code=UNIT_FAILED,
                message=f"The {unit.kind} unit failed {attempts} times, so nothing is charged, and "
                f"what was charged before was given back. The last time: {why}",
                remedies=(
                    Rerun(loaded.job.id),
                    LookAt(Listing.CHECKS, "Have the operator mend what the message names."),
                ),
            )
        )


def _split(
    loaded: LoadedJob, unit: Unit, lease: Lease, worker: Worker, kept: int, point: Checkpoint | None
) -> None:
    """Keep the whole micro-batches of a stopped unit; a new unit has the rest of its frames."""
    rest = unit.frames - kept
    share = rest / unit.frames
    loaded.tx.add(
        replace(
            unit,
            id=loaded.farm.new_id("unt", loaded.now_ms),
            state=UnitState.READY,
            first_frame=unit.indices[kept],
            frames=rest,
            p50_gpu_ms=math.ceil(unit.p50_gpu_ms * share),
            p90_gpu_ms=math.ceil(unit.p90_gpu_ms * share),
            fence=0,
            attempts=0,
            checkpoint=point,
            rung_at_ms=None,
        )
    )
    smaller = loaded.tx.save(unit, replace(unit, frames=kept, prepaid_gpu_ms=0))
    _done(loaded, smaller, lease, worker, None)


def _done(
    loaded: LoadedJob, unit: Unit, lease: Lease, worker: Worker, plan: RenderPlan | None
) -> None:
    done = replace(unit, state=UnitState.DONE, accepted_lease_id=lease.id, checkpoint=None)
    loaded.tx.save(unit, done)
    charges.sample(loaded, unit, lease, worker)
    if unit.kind is UnitKind.PARSE:
        assert plan, "a done parse unit was checked to bring one"
        _planned(loaded, plan)
    elif unit.kind is UnitKind.RENDER:
        _rendered(loaded, unit, lease)
    else:
        _encoded(loaded, lease)


def _planned(loaded: LoadedJob, plan: RenderPlan) -> None:
    costs = cost_model(loaded.farm, loaded.tx, loaded.farm.catalog.card(plan.model))
    for number, batch in enumerate(plan.batches):
        cost = pricing.unit_cost(costs, UnitKind.RENDER, plan, batch)
        loaded.tx.add(
            Unit(
                id=loaded.farm.new_id("unt", loaded.now_ms),
                job_id=loaded.job.id,
                session_id=loaded.books.session.id,
                kind=UnitKind.RENDER,
                queue=render_queue(plan.model),
                first_frame=batch.first_frame,
                frames=batch.frames,
                stride=batch.stride,
                batch=number,
                p50_gpu_ms=cost.p50_gpu_ms,
                p90_gpu_ms=cost.p90_gpu_ms,
                minimum_gpu_ms=cost.minimum_gpu_ms,
                created_at_ms=loaded.now_ms,
            )
        )
    loaded.step(JobEvent.RENDER, parsed=True)


def _rendered(loaded: LoadedJob, unit: Unit, lease: Lease) -> None:
    loaded.change(frames_done=loaded.job.frames_done + unit.frames)
    loaded.tell(
        "frame",
        first_frame=unit.first_frame,
        frames=unit.frames,
        stride=unit.stride,
        unit_id=unit.id,
        strip=lease.key(STRIP),
    )
    loaded.tell(
        "progress",
        frames_done=loaded.job.frames_done,
        frames_total=loaded.job.frames_total,
        stage=UnitKind.RENDER.value,
    )
    if loaded.job.frames_done == loaded.job.frames_total:
        assemble(loaded)


def _encoded(loaded: LoadedJob, lease: Lease) -> None:
    assert lease.receipt, "it was just written"
    names = {VIDEO: "video", POSTER: "poster", SHEET: "sheet"}
    files = {
        names[file.name]: FileRef(key=lease.key(file.name), sha256=file.sha256, bytes=file.bytes)
        for file in lease.receipt.artifacts
        if file.name in names
    }
    if policy.publishes(loaded, lease):
        loaded.change(artifacts=files, intent=None)
        loaded.end(JobEvent.FINISH)
