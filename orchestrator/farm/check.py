"""The invariants of the farm, checked over its whole store by one function.

Tests, `farm doctor` and the dispatcher's periodic look all call it. The numbers are those of
docs/ledger.md.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator

from orchestrator import chain
from orchestrator.farm import Farm
from orchestrator.farm.ports import Transaction
from orchestrator.model import Entry, Job, Lease, Month, Session, Unit
from orchestrator.states import RUNNABLE, EntryKind, JobState, LeaseState, UnitKind, UnitState


def violations(farm: Farm) -> list[str]:
    """Return a sentence for every invariant that does not hold; an empty list is health."""
    with farm.store.read() as tx:
        return [*_balances(tx), *_months(tx), *_chains(tx), *_leases(tx), *_jobs(tx)]


def _balances(tx: Transaction) -> Iterator[str]:
    sums = tx.account_sums()
    if sum(sums.values()) != 0:
        yield "I2: the ledger's accounts do not add up to zero"
    for session in tx.find(Session):
        if session.held_gpu_ms + session.spent_gpu_ms > session.limit_gpu_ms:
            yield f"I1: session {session.id} holds and spent more than its limit"
        if sums.get(f"available:{session.id}", 0) != session.available_gpu_ms:
            yield f"I2: what session {session.id} has available is not what its entries say"
        if sums.get(f"spent:{session.id}", 0) != session.spent_gpu_ms:
            yield f"I2: what session {session.id} spent is not what its entries say"
    held: Counter[str] = Counter()
    charged: Counter[str] = Counter()
    for entry in tx.find(Entry, kind=(EntryKind.SETTLE, EntryKind.REFUND)):
        sign = 1 if entry.kind is EntryKind.SETTLE else -1
        charged[entry.job_id or ""] += sign * entry.gpu_ms
    for job in tx.find(Job):
        if charged[job.id] != job.spent_gpu_ms:
            yield f"I2: job {job.id} was charged something else than its entries say"
        held[job.session_id] += job.held_gpu_ms
        if sums.get(f"held:{job.id}", 0) != job.held_gpu_ms:
            yield f"I2: what job {job.id} holds is not what its entries say"
        if job.state.is_terminal and job.held_gpu_ms:
            yield f"I7: job {job.id} is {job.state} and still holds budget"
    for session in tx.find(Session):
        if held[session.id] != session.held_gpu_ms:
            yield f"I2: session {session.id} holds something else than its jobs together"


def _months(tx: Transaction) -> Iterator[str]:
    """I12: an account's month holds and spent what its jobs' entries say, within its limit."""
    held: Counter[str] = Counter()
    spent: Counter[str] = Counter()
    for job in tx.find(Job):
        held[job.month_id] += job.held_gpu_ms
    for entry in tx.find(Entry, kind=(EntryKind.SETTLE, EntryKind.REFUND)):
        sign = 1 if entry.kind is EntryKind.SETTLE else -1
        spent[entry.month_id or ""] += sign * entry.gpu_ms
    for month in tx.find(Month):
        used = month.held_gpu_ms + month.spent_gpu_ms
        if month.limit_gpu_ms is not None and used > month.limit_gpu_ms:
            yield f"I12: month {month.id} holds and spent more than its limit"
        if month.limit_gpu_ms not in (month.cap_gpu_ms, used):
            yield f"I12: month {month.id} has a limit that is neither its cap nor what it used"
        if month.held_gpu_ms != held[month.id]:
            yield f"I12: month {month.id} holds something else than its jobs together"
        if month.spent_gpu_ms != spent[month.id]:
            yield f"I12: month {month.id} spent something else than its entries say"


def _chains(tx: Transaction) -> Iterator[str]:
    for session in tx.find(Session):  # one after the other: a ledger may not fit into memory
        fault = chain.chain_fault(session, tx.find(Entry, session_id=session.id))
        if fault:
            which = f"entry {fault.entry.id}" if fault.entry else f"session {session.id}"
            yield f"I6: the chain of session {session.id} breaks at {which}: {fault.why}"


def _leases(tx: Transaction) -> Iterator[str]:
    settled: Counter[str] = Counter()
    times: Counter[str] = Counter()
    for entry in tx.find(Entry, kind=EntryKind.SETTLE):
        settled[entry.lease_id or ""] += entry.gpu_ms
        times[entry.lease_id or ""] += 1
    open_per_job: Counter[str] = Counter()
    open_per_unit: Counter[str] = Counter()
    for lease in tx.find(Lease):
        if times[lease.id] > 1:
            yield f"I3: lease {lease.id} was settled {times[lease.id]} times"
        if settled[lease.id] != lease.settled_gpu_ms:
            yield f"I2: lease {lease.id} was settled for something else than its entry says"
        if lease.settled_gpu_ms > lease.gpu_ms_limit:
            yield f"I4: lease {lease.id} was charged more than its limit"
        seen = (lease.resolved_at_ms or lease.granted_at_ms) - lease.granted_at_ms
        if lease.settled_gpu_ms > seen:
            yield f"I9: lease {lease.id} was charged more than the time the farm saw"
        if lease.state in (LeaseState.LAPSED, LeaseState.RELEASED) and lease.settled_gpu_ms:
            yield f"I11: lease {lease.id} is {lease.state} and was charged"
        if lease.state is LeaseState.OPEN:
            open_per_job[lease.job_id] += lease.gpu_ms_limit
            open_per_unit[lease.unit_id] += 1
    yield from _devices(tx)
    for job_id, limits in open_per_job.items():
        job = tx.get(Job, job_id)
        if job and limits > job.held_gpu_ms:
            yield f"I4: the open leases of job {job_id} may cost more than it holds"
    for unit_id, count in open_per_unit.items():
        if count > 1:
            yield f"I5: unit {unit_id} is leased {count} times at once"


def _devices(tx: Transaction) -> Iterator[str]:
    """Hold what each worker's leases were charged against the time it had any of them."""
    by_worker: defaultdict[str, list[Lease]] = defaultdict(list)
    for lease in tx.find(Lease, order="granted_at_ms,id"):
        by_worker[lease.worker_id].append(lease)
    for worker_id, leases in by_worker.items():
        seen = end = 0
        for lease in leases:
            resolved = lease.resolved_at_ms or lease.granted_at_ms
            seen += max(0, resolved - max(end, lease.granted_at_ms))
            end = max(end, resolved)
        if sum(lease.settled_gpu_ms for lease in leases) > seen:
            yield f"I9: worker {worker_id} was paid for more time than it had leases"


def _jobs(tx: Transaction) -> Iterator[str]:
    by_job: defaultdict[str, list[Unit]] = defaultdict(list)
    for unit in tx.find(Unit):
        by_job[unit.job_id].append(unit)
    leases = {lease.id: lease for lease in tx.find(Lease)}
    for job in tx.find(Job):
        units = by_job[job.id]
        done = [u for u in units if u.state is UnitState.DONE]
        frames = [index for unit in done if unit.kind is UnitKind.RENDER for index in unit.indices]
        if len(frames) != len(set(frames)) or len(frames) != job.frames_done:
            yield f"I10: job {job.id} has a frame twice, or counts others than it has"
        whole = sorted(frames) == list(range(job.frames_total))
        if job.state is JobState.SUCCEEDED and not (whole or (job.truncated and frames)):
            yield f"I10: job {job.id} succeeded without some frame"
        if job.truncated and whole:
            yield f"I10: job {job.id} has all its frames and says that it was cut off"
        for unit in done:
            accepted = leases[unit.accepted_lease_id or ""]
            newest = max(le.fence for le in leases.values() if le.unit_id == unit.id)
            if accepted.fence != newest:
                yield f"I5: unit {unit.id} was granted again after its result was accepted"
        alive = any(u.state in (UnitState.READY, UnitState.LEASED) for u in units)
        if job.state in RUNNABLE and not alive:
            yield f"job {job.id} is {job.state} and has no unit that could bring it on"
        if job.state.is_terminal and any(u.state is UnitState.READY for u in units):
            yield f"job {job.id} is {job.state} and has a unit that may be granted"
