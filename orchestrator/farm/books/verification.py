"""Receipts and ledgers computed anew: what was checked, and the first entry that does not fit.

Nothing that a receipt shows is believed: the chain of its session is digested again from the
first entry on, and the job's sums, leases and prices are added up from its entries alone.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orchestrator.farm.kernel import Farm
from orchestrator.farm.kernel.owned import own_job, own_session
from orchestrator.model import Entry, Job, Json, Lease, Session
from orchestrator.money import hash_chain
from orchestrator.money.hash_chain import Fault
from orchestrator.states import EntryKind

_INTO_HOLD = frozenset({EntryKind.PLACE, EntryKind.EXTEND})
_OUT_OF_HOLD = frozenset({EntryKind.SETTLE, EntryKind.RELEASE})

_CHARGED = {EntryKind.SETTLE: 1, EntryKind.REFUND: -1}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bill:
    """A job with everything its receipt rests on."""

    session: Session
    job: Job
    chain: Sequence[Entry]
    leases: Sequence[Lease]

    @property
    def entries(self) -> list[Entry]:
        """The job's own, in the order they were written."""
        return sorted((e for e in self.chain if e.job_id == self.job.id), key=lambda e: e.number)


def verify(farm: Farm, account_id: str | None, job_id: str) -> Json:
    """Return {ok, checked, fault} of a job's receipt; `fault` names the first entry at fault."""
    with farm.store.read() as tx:
        job = own_job(tx, account_id, job_id)
        session = tx.get(Session, job.session_id)
        assert session, "rows are never deleted"
        leases = tx.find(Lease, job_id=job_id)
        bill = _Bill(
            session=session,
            job=job,
            chain=tx.find(Entry, session_id=session.id),
            leases=leases,
        )
    fault = hash_chain.chain_fault(session, bill.chain) or next(_faults(farm, bill), None)
    return {
        "job_id": job_id,
        "session_id": session.id,
        "ok": fault is None,
        "checked": {
            "entries_of_session": len(bill.chain),
            "entries_of_job": len(bill.entries),
            "leases": len(leases),
            "gpu_ms": sum(e.gpu_ms * _CHARGED.get(e.kind, 0) for e in bill.entries),
            "lost_gpu_ms": sum(e.gpu_ms for e in bill.entries if e.kind is EntryKind.LOSS),
            "price_microusd": sum(e.price_microusd for e in bill.entries),
        },
        "head_sha256": session.head_sha256,
        "fault": _shown(fault) if fault else None,
    }


def verify_ledger(
    farm: Farm, account_id: str | None, session_id: str, head_sha256: str | None
) -> Json:
    """Return {ok, checked, fault} of a session's whole ledger.

    `head_sha256`: a head that was kept elsewhere. Whoever forged all of the chain made another
    digest of every entry since, so the kept one is in it no more.
    """
    with farm.store.read() as tx:
        session = own_session(tx, account_id, session_id)
        entries = tx.find(Entry, session_id=session.id)
    balances: Counter[str] = Counter()
    for entry in entries:
        balances[entry.credit] += entry.gpu_ms
        balances[entry.debit] -= entry.gpu_ms
    held = sum(ms for name, ms in balances.items() if name.startswith("held:"))
    found = (balances[f"available:{session.id}"], held, balances[f"spent:{session.id}"])
    said = (session.available_gpu_ms, session.held_gpu_ms, session.spent_gpu_ms)
    fault = hash_chain.chain_fault(session, entries)
    if not fault and head_sha256 and head_sha256 not in {entry.sha256 for entry in entries}:
        fault = Fault(entry=None, why="no entry has the digest that you kept: it was all rewritten")
    if not fault and found != said:
        why = f"the session says {said} GPU-ms available, held and spent, its entries {found}"
        fault = Fault(entry=None, why=why)
    return {
        "session_id": session.id,
        "ok": fault is None,
        "checked": {
            "entries": len(entries),
            **dict(zip(("available_gpu_ms", "held_gpu_ms", "spent_gpu_ms"), found, strict=True)),
            "price_microusd": sum(entry.price_microusd for entry in entries),
        },
        "head_sha256": session.head_sha256,
        "fault": _shown(fault) if fault else None,
    }


def _shown(fault: Fault) -> Json:
    return {
        "entry_id": fault.entry.id if fault.entry else None,
        "number": fault.entry.number if fault.entry else None,
        "why": fault.why,
    }


def _faults(farm: Farm, bill: _Bill) -> Iterator[Fault]:
    yield from _sums(bill)
    yield from _leases(bill)
    yield from _prices(farm, bill)


def _sums(bill: _Bill) -> Iterator[Fault]:
    """Go through the job's entries as they were written; its hold is never below nothing."""
    held = spent = refunded = 0
    for entry in bill.entries:
        held += entry.gpu_ms * ((entry.kind in _INTO_HOLD) - (entry.kind in _OUT_OF_HOLD))
        spent += entry.gpu_ms * _CHARGED.get(entry.kind, 0)
        refunded += entry.gpu_ms * (entry.kind is EntryKind.REFUND)
        if held < 0:
            yield Fault(entry=entry, why="it takes more out of the hold than was in it")
    if (held, spent) != (bill.job.held_gpu_ms, bill.job.spent_gpu_ms):
        yield Fault(
            entry=None,
            why=f"the job says {bill.job.spent_gpu_ms} GPU-ms spent and {bill.job.held_gpu_ms} "
            f"held, its entries {spent} and {held}",
        )
    if refunded != bill.job.refunded_gpu_ms:
        yield Fault(
            entry=None,
            why=f"the job says {bill.job.refunded_gpu_ms} GPU-ms refunded, its entries {refunded}",
        )


def _leases(bill: _Bill) -> Iterator[Fault]:
    """Hold every lease against its entries: charged once, for what was settled and reported."""
    known = {lease.id: lease for lease in bill.leases}
    settled: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    refunded: Counter[str] = Counter()
    for entry in bill.entries:
        if entry.lease_id is None:
            continue
        lease = known.get(entry.lease_id)
        if lease is None:
            yield Fault(entry=entry, why="it is of a lease the job never had")
            continue
        if entry.kind is EntryKind.SETTLE and settled[lease.id]:
            yield Fault(entry=entry, why="its lease was settled before")
        if entry.kind is EntryKind.REFUND:
            refunded[lease.id] += entry.gpu_ms
            if refunded[lease.id] != settled[lease.id]:
                yield Fault(entry=entry, why="it gives back another amount than was settled")
        else:
            (settled if entry.kind is EntryKind.SETTLE else lost)[lease.id] += entry.gpu_ms
        if entry.receipt_sha256 != hash_chain.lease_digest(lease):
            yield Fault(
                entry=entry,
                why="its lease was changed since: its worker, device, attempt, outcome or frames, "
                "or what was reported",
            )
    for lease in bill.leases:
        said = (lease.settled_gpu_ms, lease.lost_gpu_ms)
        if said != (settled[lease.id], lost[lease.id]):
            yield Fault(
                entry=next((e for e in bill.entries if e.lease_id == lease.id), None),
                why=f"lease {lease.id} says {said[0]} GPU-ms charged and {said[1]} lost, its "
                f"entries {settled[lease.id]} and {lost[lease.id]}",
            )


def _prices(farm: Farm, bill: _Bill) -> Iterator[Fault]:
    """Compute every price anew by the rate card that its entry names."""
    devices = {lease.id: lease.device_class for lease in bill.leases}
    for entry in bill.entries:
        sign = _CHARGED.get(entry.kind)
        if sign is None:
            continue
        card = farm.rates.version(entry.rates)
        if card is None:
            yield Fault(entry=entry, why=f"there is no rate card {entry.rates!r} any more")
        elif entry.price_microusd != sign * card.price_microusd(
            entry.gpu_ms, devices[entry.lease_id or ""]
        ):
            yield Fault(entry=entry, why=f"its price is not that of rate card {card.version}")
