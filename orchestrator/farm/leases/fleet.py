"""The operator's view: workers, queues, what was spent where, and the emergency brake."""

from dataclasses import dataclass, replace

from orchestrator.errors import NotFound
from orchestrator.farm import webhook_queue
from orchestrator.farm.kernel import Farm, audit_log, facts
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.model import Json, Worker
from orchestrator.remedies import Listing, LookAt
from orchestrator.scheduling import scheduler
from orchestrator.states import UnitState, WorkerState


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepth:
    """Length of a queue, and the number of devices that stand idle beside it."""

    queue: str
    ready: int
    leased: int
    idle_workers: int


def workers(farm: Farm) -> list[Worker]:
    """Return the workers, newest first; those that are gone too."""
    with farm.store.read() as tx:
        return tx.find(Worker, order="-id")


def drain(farm: Farm, worker_id: str) -> Worker:
    """Give a worker nothing new; it finishes what it has."""
    return _set_state(farm, worker_id, WorkerState.DRAINING)


def admit(farm: Farm, worker_id: str) -> Worker:
    """Let a drained or quarantined worker work again."""
    return _set_state(farm, worker_id, WorkerState.ACTIVE)


def queues(farm: Farm) -> list[QueueDepth]:
    """Return every queue that has work or a worker."""
    with farm.store.read() as tx:
        busy = tx.turns.busy_workers()
        active = tx.find(Worker, state=WorkerState.ACTIVE)
        depths = {(queue, state): count for queue, state, count in tx.turns.queue_depths()}
    idle: dict[str, int] = {}
    for worker in active:
        for queue in scheduler.queues_of(worker.kinds, worker.models):
            idle[queue] = idle.get(queue, 0) + (worker.id not in busy)
    names = sorted({queue for queue, _ in depths} | set(idle))
    return [
        QueueDepth(
            queue=name,
            ready=depths.get((name, UnitState.READY), 0),
            leased=depths.get((name, UnitState.LEASED), 0),
            idle_workers=idle.get(name, 0),
        )
        for name in names
    ]


def usage(farm: Farm, account_id: str | None, by: str, since_ms: int) -> list[Json]:
    """Return rows {key, units, gpu_ms, lost_gpu_ms} by user, session, model, worker or stage."""
    with farm.store.read() as tx:
        return tx.books.usage(by, since_ms, account_id)


def freeze(farm: Farm, *, frozen: bool) -> None:
    """Stop (or allow again) all spending at once: no grants, and running units pause."""
    with farm.store.write() as tx:
        tx.set_fact(facts.FROZEN, frozen)
        audit_log.note(farm, tx, "farm.freeze" if frozen else "farm.thaw", "farm", None)


def is_frozen(farm: Farm) -> bool:
    """Tell whether all spending is stopped."""
    with farm.store.read() as tx:
        return facts.is_frozen(tx)


def looked(farm: Farm) -> Json:
    """Return {at_ms, faults, first} of the newest look at the whole store; at_ms None: none yet."""
    with farm.store.read() as tx:
        return tx.fact("looked", dict) or {"at_ms": None, "faults": 0, "first": []}


def tell_trouble(farm: Farm, tx: Transaction, worker: Worker, now_ms: int) -> None:
    """Tell operators that a worker is gone or quarantined."""
    data = {name: getattr(worker, name) for name in ("id", "name", "host", "device", "state")}
    webhook_queue.tell_operators(
        farm, tx, f"worker.{worker.state}", data | {"object": "worker"}, now_ms
    )


def _set_state(farm: Farm, worker_id: str, state: WorkerState) -> Worker:
    with farm.store.write() as tx:
        worker = tx.get(Worker, worker_id, lock=True)
        if worker is None:
            raise NotFound(
                f"There is no worker {worker_id}.",
                LookAt(Listing.WORKERS, "See the workers there are."),
            )
        admitted = state is WorkerState.ACTIVE
        clean = replace(worker, blamed=(), flags=0, unexplained_ms=0) if admitted else worker
        verb = "worker.admit" if state is WorkerState.ACTIVE else "worker.drain"
        audit_log.note(farm, tx, verb, worker.id, None, name=worker.name, was=worker.state.value)
        return tx.save(worker, replace(clean, state=state))
