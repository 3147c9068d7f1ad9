"""One moment of the store: each table read once, and what the entries add up to."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from orchestrator.farm.check.money import Till
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.model import Allowance, Entry, Job, Lease, Month, Session, Unit
from orchestrator.money import hash_chain, ledger
from orchestrator.states import EntryKind

_AT_ONCE: Final = 20
"""Sessions whose entries are looked at together: a whole ledger may not fit into memory."""

File = tuple[str, int]
"""Digest and size."""


@dataclass(slots=True)
class Snapshot:
    """The rows, and sums over the entries: by ledger account, job, month and lease."""

    sessions: Sequence[Session]
    months: Sequence[Month]
    allowances: Sequence[Allowance]
    jobs: dict[str, Job]
    units: Sequence[Unit]
    leases: dict[str, Lease]
    sums: Counter[str] = field(default_factory=Counter)
    of_job: Counter[str | None] = field(default_factory=Counter)
    """Settled less refunded."""
    of_month: Counter[str | None] = field(default_factory=Counter)
    settled: Counter[str | None] = field(default_factory=Counter)
    """By lease, as the others that follow."""
    times: Counter[str | None] = field(default_factory=Counter)
    """Times that it was settled."""
    lost: Counter[str | None] = field(default_factory=Counter)
    over_quote: Counter[str | None] = field(default_factory=Counter)
    refunded: Counter[str | None] = field(default_factory=Counter)
    digests: dict[str, str] = field(default_factory=dict)
    """Of the lease as it ended, as its entries have it."""
    films: dict[str, dict[str, File]] = field(default_factory=dict)
    """Of an encode lease: the files that its receipt names."""
    till: Till = field(default_factory=Till)
    faults: list[str] = field(default_factory=list)
    """Faults of the entries themselves."""


def look(tx: Transaction) -> Snapshot:
    """Read everything but the receipts, which are large and looked at one by one."""
    jobs = tx.look(
        *(Job, "id", "account_id", "session_id", "month_id", "model", "state", "intent", "error"),
        *("held_gpu_ms", "spent_gpu_ms", "refunded_gpu_ms", "ceiling_gpu_ms", "runaway_gpu_ms"),
        *("over_quote_gpu_ms", "frames_done", "frames_total", "truncated", "ran_away"),
        *("artifacts", "deleted_at_ms", "expired_at_ms", "key_id", "allowance_id"),
    )
    leases = tx.look(
        *(Lease, "id", "unit_id", "job_id", "session_id", "worker_id", "worker_name", "device"),
        *("device_class", "kind", "state", "outcome", "fence", "gpu_ms_limit", "settled_gpu_ms"),
        *("lost_gpu_ms", "over_quote_gpu_ms", "frames_done", "granted_at_ms", "resolved_at_ms"),
    )
    snapshot = Snapshot(
        sessions=tx.find(Session),
        months=tx.find(Month),
        allowances=tx.find(Allowance),
        jobs={job.id: job for job in jobs},
        units=tx.look(
            *(Unit, "id", "job_id", "kind", "state", "first_frame", "frames", "stride", "fence"),
            "accepted_lease_id",
        ),
        leases={lease.id: lease for lease in leases},
    )
    for at in range(0, len(snapshot.sessions), _AT_ONCE):
        some = snapshot.sessions[at : at + _AT_ONCE]
        entries: defaultdict[str, list[Entry]] = defaultdict(list)
        for entry in tx.find(Entry, session_id=tuple(session.id for session in some)):
            entries[entry.session_id].append(entry)
        for session in some:
            for entry in entries[session.id]:
                _add(snapshot, entry)
            snapshot.faults += _chain(session, entries[session.id])
    return snapshot


def _chain(session: Session, entries: Sequence[Entry]) -> Iterator[str]:
    fault = hash_chain.chain_fault(session, entries)
    if fault:
        which = f"entry {fault.entry.id}" if fault.entry else f"session {session.id}"
        yield f"I6: the chain of session {session.id} breaks at {which}: {fault.why}"


def _add(snapshot: Snapshot, entry: Entry) -> None:
    snapshot.till.add(entry)
    snapshot.sums[entry.credit] += entry.gpu_ms
    snapshot.sums[entry.debit] -= entry.gpu_ms
    if entry.lease_id is None:
        return
    if snapshot.digests.setdefault(entry.lease_id, entry.receipt_sha256) != entry.receipt_sha256:
        snapshot.faults.append(
            f"I6: the entries of lease {entry.lease_id} say several things of it"
        )
    if entry.kind is EntryKind.LOSS:
        snapshot.lost[entry.lease_id] += entry.gpu_ms
        if entry.note == ledger.OVER_QUOTE:
            snapshot.over_quote[entry.lease_id] += entry.gpu_ms
        return
    charged = entry.gpu_ms
    if entry.kind is EntryKind.SETTLE:
        snapshot.settled[entry.lease_id] += charged
        snapshot.times[entry.lease_id] += 1
    else:
        snapshot.refunded[entry.lease_id] += charged
        charged = -charged
    snapshot.of_job[entry.job_id] += charged
    snapshot.of_month[entry.month_id] += charged
