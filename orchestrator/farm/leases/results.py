"""How a lease ends: its result accepted, charged, or given back, and its job moved on."""

import math
from dataclasses import replace

from orchestrator.errors import BadRequest, StaleLease
from orchestrator.farm.books import alerts
from orchestrator.farm.books.costs import cost_model
from orchestrator.farm.jobs import policy
from orchestrator.farm.jobs.exhaustion import assemble
from orchestrator.farm.jobs.loaded_job import LoadedJob
from orchestrator.farm.kernel import Farm, facts
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.farm.leases import charges, checkpoints, fair_share, grants
from orchestrator.farm.leases.judging import judge, seen_ms
from orchestrator.model import Json, Lease, RenderPlan, Unit, Worker
from orchestrator.money import pricing
from orchestrator.planning import planner
from orchestrator.planning.plan_json import digest_of
from orchestrator.states import (
    UNIT_FAILED,
    Cause,
    JobEvent,
    LeaseState,
    Outcome,
    UnitKind,
    UnitState,
)
from orchestrator.wire import (
    CHECKPOINT,
    FILES_OF,
    LIMIT,
    POSTER,
    SHEET,
    STRIP,
    VIDEO,
    CompleteAnswer,
    CompleteRequest,
    Order,
    render_queue,
)


def complete(farm: Farm, worker_id: str, request: CompleteRequest) -> CompleteAnswer:
    """Accept what a worker reports of its unit, settle it, move the job, hand out the next.

    Safe to repeat: a second report of the same lease is answered like the first.

    Raises:
        StaleLease: the lease is not this worker's any more; nothing is charged.
        BadRequest: a done unit lacks what makes it done.
    """
    now = farm.clock()
    with farm.store.write() as tx:
        worker = tx.get(Worker, worker_id, lock=True)  # whoever changes a lease locks it first
        lease = _reported(farm, tx, worker_id, request, now)
        if lease.state is LeaseState.OPEN:
            assert worker, "its lease names it"
            lease = _resolve(farm, tx, lease, worker, request, now)
        orders: tuple[Order, ...] = ()
        if request.claim_next and farm.store.one_writer:
            orders = _next(farm, tx, worker_id, now)
    if request.claim_next and not farm.store.one_writer:
        with farm.store.write() as tx:  # one of its own: it may lock another session's rows
            orders = _next(farm, tx, worker_id, now)
    return CompleteAnswer(
        settled_gpu_ms=lease.settled_gpu_ms, lost_gpu_ms=lease.lost_gpu_ms, orders=orders
    )


def _next(farm: Farm, tx: Transaction, worker_id: str, now_ms: int) -> tuple[Order, ...]:
    worker = tx.get(Worker, worker_id, lock=True)  # as it is after its result
    assert worker, "its lease names it"
    again = grants.redeliver(farm, tx, worker, now_ms)
    return grants.grant(farm, tx, worker, None, now_ms) if again is None else again


def give_back(farm: Farm, tx: Transaction, lease: Lease, now_ms: int, *, lapsed: bool) -> None:
    """End a lease without a result: nothing is charged, the unit may be granted again.

    `lapsed`: its worker was lost, which counts as an attempt, and all the time for which the farm
    waited is lost with it; else it handed the unit back, and what it told of is.
    """
    loaded = LoadedJob(farm, tx, lease.job_id, lease.session_id, now_ms)
    worker = tx.get(Worker, lease.worker_id)
    assert worker, "its lease names it"
    seen_gpu_ms = seen_ms(lease, worker, min(now_ms, lease.expires_at_ms + farm.terms.grace_ms))
    lost_gpu_ms = seen_gpu_ms if lapsed else min(lease.used_gpu_ms, seen_gpu_ms)
    lease = tx.save(
        lease,
        replace(
            lease,
            state=LeaseState.LAPSED if lapsed else LeaseState.RELEASED,
            lost_gpu_ms=lost_gpu_ms,
            resolved_at_ms=now_ms,
        ),
    )
    note = "worker lost" if lapsed else "handed back"
    loaded.lose(lease, lost_gpu_ms, note)
    unit = _unit(tx, lease)
    fair_share.given_back(loaded, unit)
    if unit.state is UnitState.LEASED:
        _try_again(loaded, unit, lease, count=lapsed, why="the worker was lost")
    _close(loaded)


def _reported(
    farm: Farm, tx: Transaction, worker_id: str, request: CompleteRequest, now_ms: int
) -> Lease:
    lease = tx.get(Lease, request.lease_id)
    if lease is None or lease.worker_id != worker_id or lease.fence != request.fence:
        raise StaleLease(lease_id=request.lease_id)
    if lease.state is LeaseState.COMPLETED:
        return lease
    late = now_ms > lease.expires_at_ms + farm.terms.grace_ms
    if lease.state is not LeaseState.OPEN or late or lease.epoch != tx.fact("epoch"):
        raise StaleLease(lease_id=request.lease_id)
    return lease


def _resolve(
    farm: Farm,
    tx: Transaction,
    lease: Lease,
    worker: Worker,
    request: CompleteRequest,
    now_ms: int,
) -> Lease:
    loaded = LoadedJob(farm, tx, lease.job_id, lease.session_id, now_ms)
    unit = _unit(tx, lease)
    receipt = request.receipt
    measured = receipt.gpu_ms + receipt.wasted_gpu_ms
    charge = charges.charge(
        loaded.job, unit, lease, request, seen_gpu_ms=seen_ms(lease, worker, now_ms)
    )
    plan = _checked(loaded, unit, request)
    lease = tx.save(
        lease,
        replace(
            lease,
            state=LeaseState.COMPLETED,
            outcome=request.outcome,
            used_gpu_ms=max(lease.used_gpu_ms, measured),
            frames_done=receipt.frames_done,
            settled_gpu_ms=charge.settled_gpu_ms,
            lost_gpu_ms=charge.lost_gpu_ms,
            receipt=receipt.model_dump(mode="json")
            | {"message": request.message, "cause": request.cause},
            resolved_at_ms=now_ms,
        ),
    )
    loaded.settle(lease, charge.settled_gpu_ms)
    fair_share.settled(loaded, unit, lease)
    for gpu_ms, why in charge.losses:
        loaded.lose(lease, gpu_ms, why)
    if unit.state is UnitState.LEASED:
        owed = unit.prepaid_gpu_ms - charge.credit_gpu_ms
        unit = tx.save(unit, replace(unit, prepaid_gpu_ms=owed))
        point = checkpoints.reached(unit, lease, receipt, charge.paid_gpu_ms)
        _apply(loaded, unit, lease, worker, request, plan, point)
    judge(loaded, lease, worker, request)
    loaded.tell("usage", **grants.usage(loaded))
    _close(loaded)
    return lease


def _close(loaded: LoadedJob) -> None:
    """Do what the owner wishes, and give or take back alerts for what is spent in the end.

    What a refund gave back may let other jobs of the account go on.
    """
    loaded.carry_out()
    alerts.look(loaded)
    if loaded.close().refunded_gpu_ms:
        facts.ask_again(loaded.tx, loaded.job.id)


def _checked(loaded: LoadedJob, unit: Unit, request: CompleteRequest) -> RenderPlan | None:
    """Refuse a result that is not what its outcome says; return the plan of a parse unit."""
    receipt = request.receipt
    if (digests := len(receipt.frame_sha256)) != receipt.frames_done:
        raise BadRequest(
            f"The receipt has {digests} digests of {receipt.frames_done} frames.",
            next="Send one for each kept frame; nothing was charged, the lease is still open.",
        )
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
    plan = planner.plan_from_json(request.render_plan or {})
    if digest_of(plan) != loaded.job.quote["plan_sha256"]:
        raise BadRequest(
            "The plan is not the one that was quoted.",
            next="Install the same version of Framefarm and its models on worker and farm.",
        )
    return plan


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


def _apply(
    loaded: LoadedJob,
    unit: Unit,
    lease: Lease,
    worker: Worker,
    request: CompleteRequest,
    plan: RenderPlan | None,
    point: Json | None,
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
        _try_again(loaded, unit, lease, count=False, why=message)
        loaded.fail(
            {
                "code": "request_failed",
                "message": message,
                "next": "Change the request as the message says; the GPU time used was charged.",
            }
        )
    else:
        _try_again(loaded, unit, lease, count=True, why=message)


def _try_again(loaded: LoadedJob, unit: Unit, lease: Lease, *, count: bool, why: str) -> None:
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
            {
                "code": UNIT_FAILED,
                "message": f"The {unit.kind} unit failed {attempts} times; the last time: {why}",
                "next": "Nothing is charged: what was charged before was given back. `farm worker "
                "ls`, `farm doctor` and `farm logs` say more about the machines; mend what the "
                "message names, then `farm jobs rerun` tries the whole job again.",
            }
        )


def _split(
    loaded: LoadedJob, unit: Unit, lease: Lease, worker: Worker, kept: int, point: Json | None
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
    for batch in plan.batches:
        cost = pricing.unit_cost(costs, UnitKind.RENDER, plan, batch)
        loaded.tx.add(
            Unit(
                id=loaded.farm.new_id("unt", loaded.now_ms),
                job_id=loaded.job.id,
                session_id=loaded.session.id,
                kind=UnitKind.RENDER,
                queue=render_queue(plan.model),
                first_frame=batch.first_frame,
                frames=batch.frames,
                stride=batch.stride,
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
    files: Json = {
        names[file["name"]]: {
            "key": lease.key(file["name"]),
            "sha256": file["sha256"],
            "bytes": file["bytes"],
        }
        for file in lease.receipt["artifacts"]
        if file["name"] in names
    }
    if policy.publishes(loaded, lease):
        loaded.change(artifacts=files, intent=None)
        loaded.end(JobEvent.FINISH)


def _unit(tx: Transaction, lease: Lease) -> Unit:
    unit = tx.get(Unit, lease.unit_id, lock=True)
    assert unit, "rows are never deleted"
    return unit
