"""Times in which workers were there: an operator pays for them, busy or idle.

A shift runs from a worker's hello until it was last seen. The newest one stands on the
worker's own row, so that a heartbeat costs nothing more; it is written when the next begins.
"""

from collections import Counter
from dataclasses import replace

from orchestrator.farm.kernel import Farm
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.model import Shift, Worker
from orchestrator.states import WorkerState


def begin(farm: Farm, tx: Transaction, worker: Worker, now_ms: int) -> Worker:
    """End the worker's shift where it was last seen, and begin one now."""
    if worker.seen_at_ms > worker.since_ms:
        tx.add(
            Shift(
                id=farm.new_id("shf", now_ms),
                worker_id=worker.id,
                device_class=worker.device_class,
                from_ms=worker.since_ms,
                until_ms=worker.seen_at_ms,
            )
        )
    return replace(worker, since_ms=now_ms)


def seen(farm: Farm, tx: Transaction, worker: Worker, now_ms: int) -> Worker:
    """Return the worker as seen now; after a silence too long to be there, on a new shift."""
    silent_ms = now_ms - worker.seen_at_ms
    if worker.state is WorkerState.GONE or silent_ms > farm.terms.worker_gone_seconds * 1000:
        worker = begin(farm, tx, worker, now_ms)
    state = WorkerState.ACTIVE if worker.state is WorkerState.GONE else worker.state
    return replace(worker, seen_at_ms=max(worker.seen_at_ms, now_ms), state=state)


def present_ms(tx: Transaction, from_ms: int, until_ms: int) -> Counter[str]:
    """Return the time of all workers together between two moments, by device class."""
    time: Counter[str] = Counter()
    for shift in tx.books.shifts(from_ms, until_ms):
        time[shift.device_class] += _within(shift.from_ms, shift.until_ms, from_ms, until_ms)
    for worker in tx.find(Worker):
        time[worker.device_class] += _within(worker.since_ms, worker.seen_at_ms, from_ms, until_ms)
    return time


def _within(begin_ms: int, end_ms: int, from_ms: int, until_ms: int) -> int:
    return max(0, min(end_ms, until_ms) - max(begin_ms, from_ms))
