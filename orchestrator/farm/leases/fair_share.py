"""Fair share in the books: what joining, a grant and a settlement do to sessions and workers.

The rules themselves are in `orchestrator.scheduling.scheduler`; docs/scheduling.md explains them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from orchestrator.farm.jobs.loaded_job import LoadedJob
from orchestrator.farm.kernel import Farm
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.model import Lease, Session, Unit, Worker
from orchestrator.scheduling import scheduler
from orchestrator.states import Lane, UnitKind
from orchestrator.wire import render_queue

SESSIONS: Final = 16
"""Sessions looked at per grant and rule, those whose turn it is."""


def in_turn(
    farm: Farm, tx: Transaction, worker: Worker, now_ms: int
) -> Iterator[tuple[Lane, Session, Sequence[str]]]:
    """Yield the sessions that a worker should serve, each with the rule and the queues it may use.

    First whom the device owes time; then by virtual time, those of its own model before the others
    while it may stay with that.
    """
    queues = scheduler.queues_of(worker.kinds, worker.models)
    for name in scheduler.due(worker.owed):
        if name == scheduler.AGE:
            before = now_ms - farm.terms.age_ms
            lane, found = Lane.AGE, tx.turns.sessions_waiting(before, queues, SESSIONS)
        else:
            lane, found = Lane.FLOOR, tx.turns.sessions_of_plan(name, queues, SESSIONS)
        yield from ((lane, session, queues) for session in found)
    heads = tx.turns.sessions_with_work(queues, SESSIONS)
    if heads and _may_stay(farm, worker, heads[0], now_ms):
        others = {render_queue(model) for model in worker.models} - {worker.warm}
        near = [queue for queue in queues if queue not in others]
        found = tx.turns.sessions_with_work(near, SESSIONS)
        yield from ((Lane.WEIGHT, session, near) for session in found)
    yield from ((Lane.WEIGHT, session, queues) for session in heads)


def granted(loaded: LoadedJob, unit: Unit) -> None:
    """Move the session's virtual time by what the unit is expected to take."""
    session = replace(
        loaded.books.session, plan=loaded.books.month.plan, waits_from_ms=loaded.now_ms
    )
    weight = _weight(loaded.farm, session)
    moved = scheduler.advance(session.virtual_us, unit.p50_gpu_ms, weight=weight)
    loaded.books.session = replace(session, virtual_us=moved)


def settled(loaded: LoadedJob, unit: Unit, lease: Lease) -> None:
    """Exchange what a unit was expected to take for what it took, over its quote too."""
    _correct(loaded, unit, lease.settled_gpu_ms + lease.over_quote_gpu_ms)
    loaded.books.session = replace(loaded.books.session, waits_from_ms=loaded.now_ms)


def given_back(loaded: LoadedJob, unit: Unit) -> None:
    """Take back what the grant of a unit moved: nothing was charged."""
    _correct(loaded, unit, 0)


def worked(loaded: LoadedJob, worker: Worker, lease: Lease) -> Worker:
    """Return the worker with what its device owes, and which model it holds, after a lease."""
    plans = loaded.farm.plans.plans.values()
    shares = {plan.name: plan.floor for plan in plans if plan.floor}
    owed = scheduler.owed_after(
        worker.owed,
        shares | {scheduler.AGE: scheduler.AGE_SHARE},
        lease.settled_gpu_ms + lease.over_quote_gpu_ms,
        plan=loaded.books.session.plan,
        lane=lease.lane,
    )
    warm = render_queue(loaded.job.model) if lease.kind is UnitKind.RENDER else worker.warm
    since = worker.warm_from_ms if warm == worker.warm else lease.granted_at_ms
    return replace(worker, owed=owed, warm=warm, warm_from_ms=since)


def _correct(loaded: LoadedJob, unit: Unit, settled_ms: int) -> None:
    session = loaded.books.session
    moved = scheduler.corrected(
        session.virtual_us, unit.p50_gpu_ms, settled_ms, weight=_weight(loaded.farm, session)
    )
    loaded.books.session = replace(session, virtual_us=moved)


def _may_stay(farm: Farm, worker: Worker, head: Session, now_ms: int) -> bool:
    return (
        len(worker.models) > 1
        and bool(worker.warm)
        and scheduler.may_stay(worker, head, now_ms, farm.terms.affinity_ms)
    )


def _weight(farm: Farm, session: Session) -> int:
    plan = farm.plans.get(session.plan)
    return plan.weight if plan else 1
