"""Effects of an accepted report on its unit and its job: done, split, tried again, failed."""

import math
from dataclasses import replace
from typing import Final

from orchestrator.farm.books import pacing
from orchestrator.farm.books.costs import cost_model
from orchestrator.farm.jobs import policy
from orchestrator.farm.jobs.exhaustion import assemble
from orchestrator.farm.jobs.loaded_job import LoadedJob
from orchestrator.farm.leases import charges, checkpoints
from orchestrator.model import Checkpoint, FileRef, JobError, Lease, RenderPlan, Unit, Worker
from orchestrator.money import pricing
from orchestrator.money.pace import Pace
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

ALIKE: Final = 0.1
"""Units whose costs differ by less are left as they are: a job may have hundreds of them."""


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
    pace = _pace(loaded, unit, request)
    match request.outcome:
        case Outcome.FAILED:
            _failed(loaded, unit, lease, request)
        case Outcome.STOPPED if kept and kept < unit.frames:
            _split(loaded, unit, lease, worker, kept, point)
        case Outcome.STOPPED if not kept:
            ready = replace(unit, state=UnitState.READY, checkpoint=point, rung_at_ms=None)
            in_vain = request.message == LIMIT and not request.receipt.checkpoint_step
            if in_vain:
                floor = _floor(ready, lease, loaded.job.render_plan, pace)
                ready = replace(ready, minimum_gpu_ms=floor)
            loaded.tx.save(unit, ready)
        case _:
            _done(loaded, unit, lease, worker, plan)
    if pace and _differs(unit, pace, loaded.job.render_plan, request):
        _repace(loaded, pace)


def _pace(loaded: LoadedJob, unit: Unit, request: CompleteRequest) -> Pace | None:
    """Return the pace of a job after one more of its render leases; None: no news of any."""
    if unit.kind is not UnitKind.RENDER or request.outcome is Outcome.FAILED:
        return None
    return pacing.seen(loaded.tx, loaded.job)


def _floor(unit: Unit, lease: Lease, plan: RenderPlan, pace: Pace | None) -> int:
    """Return the least for a unit whose lease was too small for it to keep anything."""
    needs = pace.cost(unit, plan).minimum_gpu_ms if pace else 0
    if needs > lease.gpu_ms_limit:
        return needs
    return max(unit.minimum_gpu_ms, 2 * lease.gpu_ms_limit)  # nobody knows what it takes


def _differs(unit: Unit, pace: Pace, plan: RenderPlan, request: CompleteRequest) -> bool:
    """Tell whether a job's other units say something else than its pace, as this one did.

    What a stopped unit has left is reckoned anew in any case.
    """
    if request.outcome is Outcome.STOPPED:
        return True
    cost = pace.cost(unit, plan)
    both = ((cost.p50_gpu_ms, unit.p50_gpu_ms), (cost.p90_gpu_ms, unit.p90_gpu_ms))
    return any(abs(now - said) > ALIKE * said for now, said in both)


def _repace(loaded: LoadedJob, pace: Pace) -> None:
    """Let what is left of a job be reckoned at the pace that was seen: its limits and its hold."""
    for unit in loaded.units(kind=UnitKind.RENDER, state=UnitState.READY):
        cost = pace.cost(unit, loaded.job.render_plan)
        least = cost.minimum_gpu_ms
        if unit.minimum_gpu_ms > unit.p90_gpu_ms:  # it was stopped in vain
            least = max(least, unit.minimum_gpu_ms)
        loaded.tx.save(
            unit,
            replace(
                unit,
                p50_gpu_ms=cost.p50_gpu_ms,
                p90_gpu_ms=cost.p90_gpu_ms,
                minimum_gpu_ms=least,
            ),
        )


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
