"""I3, I4, I7, I9, I11: what a lease was charged, by its limit and by the time the farm saw."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from orchestrator.farm.check.snapshot import Snapshot
from orchestrator.model import Job, Lease
from orchestrator.states import LeaseState


def faults(snapshot: Snapshot) -> Iterator[str]:
    """Hold each lease against its entries and its limit, and the open ones against the holds."""
    open_per_job: Counter[str] = Counter()
    for lease in snapshot.leases.values():
        yield from _money(snapshot, lease)
        if lease.settled_gpu_ms > lease.gpu_ms_limit:
            yield f"I4: lease {lease.id} was charged more than its limit"
        if lease.settled_gpu_ms > _end(lease) - lease.granted_at_ms:
            yield f"I9: lease {lease.id} was charged more than the time the farm saw"
        elif lease.settled_gpu_ms + lease.lost_gpu_ms > _end(lease) - lease.granted_at_ms:
            yield f"I9: lease {lease.id} lost more than the time the farm saw"
        if lease.state in (LeaseState.LAPSED, LeaseState.RELEASED) and lease.settled_gpu_ms:
            yield f"I11: lease {lease.id} is {lease.state} and was charged"
        if lease.state is LeaseState.OPEN:
            open_per_job[lease.job_id] += lease.gpu_ms_limit
            if snapshot.jobs[lease.job_id].state.is_terminal:
                yield f"I7: lease {lease.id} is open and its job has ended"
    for job in snapshot.jobs.values():
        if open_per_job[job.id] > _room(job):
            yield f"I4: the open leases of job {job.id} may cost more than it holds"
    yield from _over_quote(snapshot)


def _over_quote(snapshot: Snapshot) -> Iterator[str]:
    """I16: device time over a quote is what its entries say, of leases and of jobs."""
    over: Counter[str] = Counter()
    for lease in snapshot.leases.values():
        over[lease.job_id] += lease.over_quote_gpu_ms
        if snapshot.over_quote[lease.id] != lease.over_quote_gpu_ms:
            yield f"I16: lease {lease.id} ran over its quote for something else than its entry says"
    for job in snapshot.jobs.values():
        if over[job.id] != job.over_quote_gpu_ms:
            yield f"I16: job {job.id} ran over its quote for something else than its leases"


def _room(job: Job) -> int:
    """Return what all open leases of a job may take together."""
    if job.runaway_gpu_ms is None:
        return job.held_gpu_ms
    ran: int = job.spent_gpu_ms + job.refunded_gpu_ms + job.over_quote_gpu_ms
    return job.runaway_gpu_ms - ran


def _money(snapshot: Snapshot, lease: Lease) -> Iterator[str]:
    if snapshot.times[lease.id] > 1:
        yield f"I3: lease {lease.id} was settled {snapshot.times[lease.id]} times"
    if snapshot.settled[lease.id] != lease.settled_gpu_ms:
        yield f"I2: lease {lease.id} was settled for something else than its entry says"
    if snapshot.lost[lease.id] != lease.lost_gpu_ms:
        yield f"I2: lease {lease.id} lost something else than its entries say"
    if snapshot.refunded[lease.id] not in (0, lease.settled_gpu_ms):
        yield f"I3: lease {lease.id} was refunded something else than it was settled for"


def devices(snapshot: Snapshot) -> Iterator[str]:
    """I9: what each worker's leases were charged are times that do not overlap.

    In the order in which they ended, each charge is put where it fits first: after its grant and
    after the charge before it. One that would have to end later than its lease did is too much.
    """
    by_worker: defaultdict[str, list[Lease]] = defaultdict(list)
    for lease in snapshot.leases.values():
        if lease.settled_gpu_ms:
            by_worker[lease.worker_id].append(lease)
    for worker_id, leases in by_worker.items():
        metered = 0
        for lease in sorted(leases, key=lambda lease: (_end(lease), lease.granted_at_ms)):
            metered = max(metered, lease.granted_at_ms) + lease.settled_gpu_ms
            if metered > _end(lease):
                yield f"I9: worker {worker_id} was paid twice for one time, by lease {lease.id}"
                break


def _end(lease: Lease) -> int:
    end: int = lease.granted_at_ms if lease.resolved_at_ms is None else lease.resolved_at_ms
    return end
