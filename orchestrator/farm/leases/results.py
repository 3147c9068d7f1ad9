"""Ends of leases: a report accepted and charged, or its unit given back."""

from collections.abc import Callable
from dataclasses import replace

from orchestrator.farm.books import alerts
from orchestrator.farm.jobs.loaded_job import LoadedJob
from orchestrator.farm.kernel import Farm, facts
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.farm.leases import charges, checkpoints, fair_share, grants, outcomes, reports
from orchestrator.farm.leases.judging import judge, seen_ms
from orchestrator.model import Lease, Unit, Worker
from orchestrator.receipt import KeptReceipt
from orchestrator.states import (
    Cause,
    LeaseState,
    Outcome,
    UnitState,
)
from orchestrator.wire import (
    CompleteAnswer,
    CompleteRequest,
    Order,
)


def complete(
    farm: Farm,
    worker_id: str,
    request: CompleteRequest,
    *,
    refuted: str = "",
    check_files: Callable[[], object] | None = None,
) -> CompleteAnswer:
    """Accept what a worker reports of its unit, settle it, move the job, hand out the next.

    Safe to repeat: a second report of the same lease is answered like the first. `refuted`: what
    the farm found wrong with the files of a report; the unit has failed by its worker's fault then,
    whatever that says, and the worker has a flag. `check_files`: raises where an open lease's files
    are not those any more that were looked at; none is put in its place between it and the result.

    Raises:
        StaleLease: the lease is not this worker's any more; nothing is charged.
        BadRequest: a done unit lacks what makes it done.
    """
    now = farm.clock()
    with farm.store.write() as tx:
        worker = tx.get(Worker, worker_id, lock=True)  # whoever changes a lease locks it first
        lease = reports.reported(farm, tx, worker_id, request, now)
        if lease.state is LeaseState.OPEN:
            assert worker, "its lease names it"
            if check_files:
                check_files()
            if refuted:
                failed = {"outcome": Outcome.FAILED, "cause": Cause.WORKER, "message": refuted}
                request = request.model_copy(update=failed)
            lease = _resolve(farm, tx, lease, worker, request, now, is_refuted=bool(refuted))
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
    loaded.books.lose(lease, lost_gpu_ms, note)
    unit = _unit(tx, lease)
    fair_share.given_back(loaded, unit)
    if unit.state is UnitState.LEASED:
        outcomes.try_again(loaded, unit, lease, count=lapsed, why="the worker was lost")
    _close(loaded)


def _resolve(
    farm: Farm,
    tx: Transaction,
    lease: Lease,
    worker: Worker,
    request: CompleteRequest,
    now_ms: int,
    *,
    is_refuted: bool,
) -> Lease:
    loaded = LoadedJob(farm, tx, lease.job_id, lease.session_id, now_ms)
    unit = _unit(tx, lease)
    receipt = request.receipt
    measured = receipt.gpu_ms + receipt.wasted_gpu_ms
    charge = charges.charge(
        loaded.job, unit, lease, request, seen_gpu_ms=seen_ms(lease, worker, now_ms)
    )
    plan = reports.checked(loaded, unit, request)
    lease = tx.save(
        lease,
        replace(
            lease,
            state=LeaseState.COMPLETED,
            outcome=request.outcome,
            used_gpu_ms=max(lease.used_gpu_ms, measured),
            frames_done=receipt.frames_done,
            steps_done=max(lease.steps_done, receipt.steps_done),
            settled_gpu_ms=charge.settled_gpu_ms,
            lost_gpu_ms=charge.lost_gpu_ms,
            over_quote_gpu_ms=charge.over_quote_gpu_ms,
            receipt=KeptReceipt(**dict(receipt), message=request.message, cause=request.cause),
            resolved_at_ms=now_ms,
        ),
    )
    loaded.books.settle(lease, charge.settled_gpu_ms)
    loaded.books.over_quote(charge.over_quote_gpu_ms)
    fair_share.settled(loaded, unit, lease)
    for gpu_ms, why in charge.losses:
        loaded.books.lose(lease, gpu_ms, why)
    if unit.state is UnitState.LEASED:
        owed = unit.prepaid_gpu_ms - charge.credit_gpu_ms
        unit = tx.save(unit, replace(unit, prepaid_gpu_ms=owed))
        point = checkpoints.reached(unit, lease, receipt, charge.paid_gpu_ms)
        outcomes.apply(loaded, unit, lease, worker, request, plan, point)
    judge(loaded, lease, worker, request, is_refuted=is_refuted)
    loaded.tell("usage", **grants.usage(loaded))
    _close(loaded)
    return lease


def _close(loaded: LoadedJob) -> None:
    """Carry out the intent of its owner, and give or take back alerts for what is spent in the end.

    What a refund gave back may let other jobs of the account go on.
    """
    loaded.carry_out()
    alerts.look(loaded.books)
    if loaded.close().refunded_gpu_ms:
        facts.ask_again(loaded.tx, loaded.job.id)


def _unit(tx: Transaction, lease: Lease) -> Unit:
    unit = tx.get(Unit, lease.unit_id, lock=True)
    assert unit, "rows are never deleted"
    return unit
