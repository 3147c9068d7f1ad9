"""The invariants of the farm, checked over its whole store by one function.

Tests, `farm doctor` and the dispatcher's periodic look all call it. The numbers are those of
docs/ledger.md.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from orchestrator import chain
from orchestrator.farm import Farm, check_money
from orchestrator.farm.ports import Transaction
from orchestrator.model import Entry, Job, Lease, Month, Session, Unit, indices
from orchestrator.states import RUNNABLE, EntryKind, JobState, LeaseState, UnitKind, UnitState

_AT_ONCE: Final = 20
"""Sessions whose entries are looked at together: a whole ledger may not fit into memory."""


def violations(farm: Farm) -> list[str]:
    """Return a sentence for every invariant that does not hold; an empty list is health."""
    with farm.store.read() as tx:
        seen = _look(tx)
        money = list(check_money.faults(farm, tx, seen.till))
        open_doors = [f"I6: the trigger {name} is gone or off" for name in tx.missing_triggers()]
    return [
        *open_doors,
        *_balances(seen),
        *_months(seen),
        *seen.chain_faults,
        *_leases(seen),
        *_devices(seen),
        *_jobs(seen),
        *money,
    ]


@dataclass(slots=True)
class _Seen:
    """One moment of the store, each table read once, and what the entries add up to."""

    sessions: Sequence[Session]
    months: Sequence[Month]
    jobs: Sequence[Any]
    units: Sequence[Any]
    leases: Sequence[Any]
    sums: Counter[str] = field(default_factory=Counter)
    """Balance by ledger account."""
    of_job: Counter[str | None] = field(default_factory=Counter)
    """Settled less refunded, by job; the next by month."""
    of_month: Counter[str | None] = field(default_factory=Counter)
    settled: Counter[str | None] = field(default_factory=Counter)
    """Settled by lease; the next: how many times."""
    times: Counter[str | None] = field(default_factory=Counter)
    chain_faults: list[str] = field(default_factory=list)
    till: check_money.Till = field(default_factory=check_money.Till)


def _look(tx: Transaction) -> _Seen:
    seen = _Seen(
        sessions=tx.find(Session),
        months=tx.find(Month),
        jobs=tx.look(
            *(Job, "id", "session_id", "month_id", "state", "held_gpu_ms", "spent_gpu_ms"),
            *("frames_done", "frames_total", "truncated"),
        ),
        units=tx.look(
            *(Unit, "id", "job_id", "kind", "state", "first_frame", "frames", "stride"),
            "accepted_lease_id",
        ),
        leases=tx.look(
            *(Lease, "id", "unit_id", "job_id", "worker_id", "state", "fence", "gpu_ms_limit"),
            *("settled_gpu_ms", "lost_gpu_ms", "granted_at_ms", "resolved_at_ms"),
        ),
    )
    for at in range(0, len(seen.sessions), _AT_ONCE):
        some = seen.sessions[at : at + _AT_ONCE]
        entries: defaultdict[str, list[Entry]] = defaultdict(list)
        for entry in tx.find(Entry, session_id=tuple(session.id for session in some)):
            entries[entry.session_id].append(entry)
        for session in some:
            _add_up(seen, entries[session.id])
            seen.chain_faults += _chain(session, entries[session.id])
    return seen


def _chain(session: Session, entries: Sequence[Entry]) -> Iterator[str]:
    fault = chain.chain_fault(session, entries)
    if fault:
        which = f"entry {fault.entry.id}" if fault.entry else f"session {session.id}"
        yield f"I6: the chain of session {session.id} breaks at {which}: {fault.why}"


def _add_up(seen: _Seen, entries: Sequence[Entry]) -> None:
    for entry in entries:
        seen.till.add(entry)
        seen.sums[entry.credit] += entry.gpu_ms
        seen.sums[entry.debit] -= entry.gpu_ms
        if entry.kind in (EntryKind.SETTLE, EntryKind.REFUND):
            charged = entry.gpu_ms if entry.kind is EntryKind.SETTLE else -entry.gpu_ms
            seen.of_job[entry.job_id] += charged
            seen.of_month[entry.month_id] += charged
        if entry.kind is EntryKind.SETTLE:
            seen.settled[entry.lease_id] += entry.gpu_ms
            seen.times[entry.lease_id] += 1


def _balances(seen: _Seen) -> Iterator[str]:
    if seen.sums["issued"] != -sum(session.limit_gpu_ms for session in seen.sessions):
        yield "I2: the sessions' limits are not what their entries say that they were given"
    if seen.sums["farm_loss"] != sum(lease.lost_gpu_ms for lease in seen.leases):
        yield "I2: the farm lost something else than its leases say"
    for session in seen.sessions:
        if session.held_gpu_ms + session.spent_gpu_ms > session.limit_gpu_ms:
            yield f"I1: session {session.id} holds and spent more than its limit"
        if seen.sums[f"available:{session.id}"] != session.available_gpu_ms:
            yield f"I2: what session {session.id} has available is not what its entries say"
        if seen.sums[f"spent:{session.id}"] != session.spent_gpu_ms:
            yield f"I2: what session {session.id} spent is not what its entries say"
    held: Counter[str] = Counter()
    for job in seen.jobs:
        held[job.session_id] += job.held_gpu_ms
        if seen.of_job[job.id] != job.spent_gpu_ms:
            yield f"I2: job {job.id} was charged something else than its entries say"
        if seen.sums[f"held:{job.id}"] != job.held_gpu_ms:
            yield f"I2: what job {job.id} holds is not what its entries say"
        if job.state.is_terminal and job.held_gpu_ms:
            yield f"I7: job {job.id} is {job.state} and still holds budget"
    for session in seen.sessions:
        if held[session.id] != session.held_gpu_ms:
            yield f"I2: session {session.id} holds something else than its jobs together"


def _months(seen: _Seen) -> Iterator[str]:
    """I12: an account's month holds and spent what its jobs' entries say, within its limit."""
    held: Counter[str] = Counter()
    for job in seen.jobs:
        held[job.month_id] += job.held_gpu_ms
    for month in seen.months:
        used = month.held_gpu_ms + month.spent_gpu_ms
        if month.limit_gpu_ms is not None and used > month.limit_gpu_ms:
            yield f"I12: month {month.id} holds and spent more than its limit"
        if month.limit_gpu_ms not in (month.cap_gpu_ms, used):
            yield f"I12: month {month.id} has a limit that is neither its cap nor what it used"
        if month.held_gpu_ms != held[month.id]:
            yield f"I12: month {month.id} holds something else than its jobs together"
        if month.spent_gpu_ms != seen.of_month[month.id]:
            yield f"I12: month {month.id} spent something else than its entries say"


def _leases(seen: _Seen) -> Iterator[str]:
    open_per_job: Counter[str] = Counter()
    open_per_unit: Counter[str] = Counter()
    for lease in seen.leases:
        if seen.times[lease.id] > 1:
            yield f"I3: lease {lease.id} was settled {seen.times[lease.id]} times"
        if seen.settled[lease.id] != lease.settled_gpu_ms:
            yield f"I2: lease {lease.id} was settled for something else than its entry says"
        if lease.settled_gpu_ms > lease.gpu_ms_limit:
            yield f"I4: lease {lease.id} was charged more than its limit"
        waited = (lease.resolved_at_ms or lease.granted_at_ms) - lease.granted_at_ms
        if lease.settled_gpu_ms > waited:
            yield f"I9: lease {lease.id} was charged more than the time the farm saw"
        if lease.state in (LeaseState.LAPSED, LeaseState.RELEASED) and lease.settled_gpu_ms:
            yield f"I11: lease {lease.id} is {lease.state} and was charged"
        if lease.state is LeaseState.OPEN:
            open_per_job[lease.job_id] += lease.gpu_ms_limit
            open_per_unit[lease.unit_id] += 1
    for job in seen.jobs:
        if open_per_job[job.id] > job.held_gpu_ms:
            yield f"I4: the open leases of job {job.id} may cost more than it holds"
    for unit_id, count in open_per_unit.items():
        if count > 1:
            yield f"I5: unit {unit_id} is leased {count} times at once"


def _devices(seen: _Seen) -> Iterator[str]:
    """Hold what each worker's leases were charged against the time it had any of them."""
    by_worker: defaultdict[str, list[Any]] = defaultdict(list)
    for lease in sorted(seen.leases, key=lambda lease: (lease.granted_at_ms, lease.id)):
        by_worker[lease.worker_id].append(lease)
    for worker_id, leases in by_worker.items():
        busy = end = 0
        for lease in leases:
            resolved = lease.resolved_at_ms or lease.granted_at_ms
            busy += max(0, resolved - max(end, lease.granted_at_ms))
            end = max(end, resolved)
        if sum(lease.settled_gpu_ms for lease in leases) > busy:
            yield f"I9: worker {worker_id} was paid for more time than it had leases"


def _jobs(seen: _Seen) -> Iterator[str]:
    by_job: defaultdict[str, list[Any]] = defaultdict(list)
    for unit in seen.units:
        by_job[unit.job_id].append(unit)
    fences: dict[str, int] = {}
    newest: Counter[str] = Counter()
    for lease in seen.leases:
        fences[lease.id] = lease.fence
        newest[lease.unit_id] = max(newest[lease.unit_id], lease.fence)
    for job in seen.jobs:
        units = by_job[job.id]
        yield from _frames(job, units)
        for unit in units:
            if unit.state is UnitState.DONE and fences[unit.accepted_lease_id] != newest[unit.id]:
                yield f"I5: unit {unit.id} was granted again after its result was accepted"
        alive = any(u.state in (UnitState.READY, UnitState.LEASED) for u in units)
        if job.state in RUNNABLE and not alive:
            yield f"job {job.id} is {job.state} and has no unit that could bring it on"
        if job.state.is_terminal and any(u.state is UnitState.READY for u in units):
            yield f"job {job.id} is {job.state} and has a unit that may be granted"


def _frames(job: Any, units: Sequence[Any]) -> Iterator[str]:
    frames: list[int] = []
    for unit in units:
        if unit.state is UnitState.DONE and unit.kind is UnitKind.RENDER:
            frames += indices(unit.first_frame, unit.frames, unit.stride)
    if len(frames) != len(set(frames)) or len(frames) != job.frames_done:
        yield f"I10: job {job.id} has a frame twice, or counts others than it has"
    whole = sorted(frames) == list(range(job.frames_total))
    if job.state is JobState.SUCCEEDED and not (whole or (job.truncated and frames)):
        yield f"I10: job {job.id} succeeded without some frame"
    if job.truncated and whole:
        yield f"I10: job {job.id} has all its frames and says that it was cut off"
