"""Granting: the one place that decides which unit a worker gets, and what it may cost."""

import math
from collections.abc import Iterator
from dataclasses import replace

from orchestrator.errors import Conflict
from orchestrator.farm.books import alerts
from orchestrator.farm.jobs.exhaustion import exhausted
from orchestrator.farm.jobs.loaded_job import LoadedJob
from orchestrator.farm.kernel import Farm, facts
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.farm.leases import checkpoints, fair_share
from orchestrator.farm.leases.orders import order
from orchestrator.model import Lease, Unit, Worker
from orchestrator.money import ledger
from orchestrator.scheduling import scheduler
from orchestrator.states import (
    RUNNABLE,
    JobEvent,
    Lane,
    LeaseState,
    OnExhausted,
    PauseReason,
    UnitKind,
    UnitState,
    WorkerState,
)
from orchestrator.wire import Order

UNITS = 32
"""Units looked at per session."""

_EVENTS = {
    UnitKind.PARSE: JobEvent.PARSE,
    UnitKind.RENDER: JobEvent.RENDER,
    UnitKind.ENCODE: JobEvent.ENCODE,
}


def waiting_for(
    farm: Farm, tx: Transaction, worker: Worker, hint: str | None, now_ms: int
) -> Iterator[tuple[Lane, Unit]]:
    """Yield ready units in the order in which this worker should get them, and by which rule."""
    for lane, session, queues in fair_share.in_turn(farm, tx, worker, now_ms):
        units = tx.turns.ready_units(session.id, queues, UNITS)
        failed = {unit.queue for unit in units if unit.last_worker_id == worker.id}
        alone = not failed or _is_alone(tx, worker, failed)
        for unit in scheduler.in_order(units, worker, hint=hint, alone=alone):
            if checkpoints.fits(unit, worker) or not _is_awaited(tx, unit):
                yield lane, unit


def _is_alone(tx: Transaction, worker: Worker, queues: set[str]) -> bool:
    """Tell whether no other active worker serves any of these queues."""
    return not any(
        other.id != worker.id and queues & set(scheduler.queues_of(other.kinds, other.models))
        for other in tx.find(Worker, state=WorkerState.ACTIVE)
    )


def _is_awaited(tx: Transaction, unit: Unit) -> bool:
    """Tell whether an active worker could go on with the unit where it stopped."""
    return any(
        checkpoints.fits(unit, other)
        and other.id != unit.last_worker_id
        and unit.queue in scheduler.queues_of(other.kinds, other.models)
        for other in tx.find(Worker, state=WorkerState.ACTIVE)
    )


def grant(
    farm: Farm, tx: Transaction, worker: Worker, hint: str | None, now_ms: int
) -> tuple[Order, ...]:
    """Lease the next unit to this worker; an empty tuple when there is none for it."""
    if worker.state is not WorkerState.ACTIVE or facts.is_frozen(tx):
        return ()
    broke: set[str] = set()
    for lane, unit in waiting_for(farm, tx, worker, hint, now_ms):
        if unit.job_id in broke:
            continue
        loaded = LoadedJob(farm, tx, unit.job_id, unit.session_id, now_ms)
        fresh = tx.get(Unit, unit.id, lock=True)
        if fresh is None or fresh.state is not UnitState.READY or not _may_run(loaded):
            loaded.close()  # a month whose plan is gone says so from now on
            continue
        lease = _lease(loaded, fresh, worker, lane)
        if lease is None:
            broke.add(unit.job_id)
            alerts.look(loaded.books)  # what it gave back may have let a limit sink
            loaded.close()
            continue
        loaded.close()
        return (order(loaded, checkpoints.begun(fresh, worker), lease),)
    return ()


def redeliver(farm: Farm, tx: Transaction, worker: Worker, now_ms: int) -> tuple[Order, ...] | None:
    """Return the worker's open order again if it may not have heard of it; None: it has none.

    A worker runs one unit at a time, so a claim beside an open lease means that the answer
    to an earlier claim was lost.
    """
    leases = tx.find(Lease, worker_id=worker.id, state=LeaseState.OPEN)
    if not leases:
        return None
    lease = leases[0]
    unit = tx.get(Unit, lease.unit_id)
    assert unit, "rows are never deleted"
    if lease.sequence:
        return ()
    return (order(LoadedJob(farm, tx, lease.job_id, lease.session_id, now_ms), unit, lease),)


def _may_run(loaded: LoadedJob) -> bool:
    return (
        loaded.job.state in RUNNABLE and loaded.job.intent is None and bool(loaded.books.month.plan)
    )


def _lease(loaded: LoadedJob, unit: Unit, worker: Worker, lane: Lane) -> Lease | None:
    """Write a lease within the budget; None when the unit has to wait or its job was paused."""
    open_leases = loaded.open_leases()
    reserve = _reserve(loaded, unit)
    limit = ledger.lease_limit(
        loaded.books.session,
        loaded.job,
        loaded.books.month,
        loaded.books.allowance,
        open_gpu_ms=sum(lease.gpu_ms_limit for lease in open_leases),
        reserve_gpu_ms=reserve,
        p90_gpu_ms=unit.p90_gpu_ms,
        minimum_gpu_ms=_floor(loaded, unit, shared=bool(open_leases)),
        margin=_margin(loaded),
    )
    braked = unit.kind is not UnitKind.ENCODE and alerts.is_braked(loaded.books)
    if not limit.gpu_ms or braked:
        if not open_leases:  # nothing will come back by itself
            loaded.pause(PauseReason.BUDGET) if braked else exhausted(loaded, unit)
        return None
    if limit.extend_gpu_ms:
        loaded.books.hold(limit.extend_gpu_ms)
    lease = Lease(
        id=loaded.farm.new_id("lea", loaded.now_ms),
        unit_id=unit.id,
        job_id=unit.job_id,
        session_id=unit.session_id,
        worker_id=worker.id,
        worker_name=worker.name,
        device=worker.device,
        device_class=worker.device_class,
        kind=unit.kind,
        lane=lane,
        virtual_us=loaded.books.session.virtual_us,
        fence=unit.fence + 1,
        epoch=facts.epoch(loaded.tx),
        gpu_ms_limit=limit.gpu_ms,
        granted_at_ms=loaded.now_ms,
        expires_at_ms=loaded.now_ms + loaded.farm.terms.lease_ms,
    )
    try:
        begun = checkpoints.begun(unit, worker)
        loaded.tx.save(unit, replace(begun, state=UnitState.LEASED, fence=lease.fence))
    except Conflict:
        return None
    loaded.tx.add(lease)
    fair_share.granted(loaded, unit)
    loaded.step(_EVENTS[unit.kind], started_at_ms=loaded.job.started_at_ms or loaded.now_ms)
    loaded.tell("usage", **usage(loaded))
    return lease


def _floor(loaded: LoadedJob, unit: Unit, *, shared: bool) -> int:
    """Return the least that is worth a lease: a few steps for the last of a hold.

    While others have a part of it (`shared`) their slack comes back, and a job that is to end
    with its finished frames has no use for steps: a whole micro-batch.
    """
    wait = shared or loaded.job.on_exhausted is OnExhausted.FINISH
    if not wait or unit.kind is not UnitKind.RENDER:
        return unit.minimum_gpu_ms
    micro_batches = -(-unit.frames // loaded.job.render_plan.micro_batch)
    return max(unit.minimum_gpu_ms, -(-unit.p90_gpu_ms // micro_batches))


def _reserve(loaded: LoadedJob, unit: Unit) -> int:
    """Return what has to stay for the encode unit: of a job with a ceiling, many times that."""
    if unit.kind is UnitKind.ENCODE:
        return 0
    job = loaded.job
    times = 1.0 if job.runaway_gpu_ms is None else loaded.farm.terms.runaway
    return math.ceil(job.encode_reserve_gpu_ms * times)


def _margin(loaded: LoadedJob) -> float:
    terms = loaded.farm.terms
    return terms.lease_margin if loaded.job.quote.measured else terms.lease_margin_unmeasured


def usage(loaded: LoadedJob) -> dict[str, int]:
    """News for the watchers of a job, of its money."""
    return {"gpu_ms": loaded.job.spent_gpu_ms, "held_gpu_ms": loaded.job.held_gpu_ms}
