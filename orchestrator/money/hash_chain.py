"""The chain of a session's entries, by which any change to a bill shows.

The entries of a session are a chain: each has the digest of the one before, and the session
has that of the newest. Whoever changes a session's balances has locked its row, so the chain
costs one SHA-256 an entry and no lock or query.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from orchestrator.model import Entry, Lease, Session

_CANONICAL = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def digest(entry: Entry) -> str:
    """Return the SHA-256 of an entry and, through the digest before it, of all before it.

    It is taken of a JSON array in UTF-8 without spaces: docs/ledger.md lists its items.
    """
    facts = (
        entry.previous_sha256,
        entry.number,
        entry.id,
        entry.at_ms,
        entry.kind.value,
        entry.session_id,
        entry.job_id or "",
        entry.lease_id or "",
        entry.month_id or "",
        entry.gpu_ms,
        entry.debit,
        entry.credit,
        entry.note,
        entry.price_microusd,
        entry.rates,
        entry.receipt_sha256,
    )
    return _sha256(facts)


def lease_digest(lease: Lease) -> str:
    """Return the SHA-256 of a lease as it ended: whose it was, what came of it, the report.

    Its line of a receipt says the same; docs/ledger.md lists the items of this array too.
    """
    return row_digest(lease, lease.receipt and lease.receipt.model_dump(mode="json"))


def row_digest(lease: Lease, receipt: object) -> str:
    """Return that of a lease's row whose receipt was read apart from it."""
    facts = (
        lease.id,
        lease.unit_id,
        lease.kind.value,
        lease.worker_id,
        lease.worker_name,
        lease.device,
        lease.device_class,
        lease.fence,
        (lease.outcome or lease.state).value,
        lease.frames_done,
        receipt,
    )
    return _sha256(facts)


def chained(session: Session, entry: Entry) -> tuple[Session, Entry]:
    """Put an entry at the end of its session's chain."""
    entry = replace(entry, number=session.entries + 1, previous_sha256=session.head_sha256)
    entry = replace(entry, sha256=digest(entry))
    return replace(session, entries=entry.number, head_sha256=entry.sha256), entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """The first entry of a chain that does not fit, and why; `entry` None: one is missing."""

    entry: Entry | None
    why: str


def chain_fault(session: Session, entries: Sequence[Entry]) -> Fault | None:
    """Return where the chain of a session breaks, None where it holds.

    `entries`: all of the session's, in any order.
    """
    head = ""
    for number, entry in enumerate(sorted(entries, key=lambda e: (e.number, e.id)), start=1):
        if entry.number != number:
            return Fault(entry=entry, why=f"it is number {entry.number}, where {number} is due")
        if entry.previous_sha256 != head:
            return Fault(entry=entry, why="it does not follow the entry before it")
        if digest(entry) != entry.sha256:
            return Fault(entry=entry, why="it was changed: its digest is another")
        head = entry.sha256
    if (len(entries), head) != (session.entries, session.head_sha256):
        return Fault(
            entry=None,
            why=f"the session has {session.entries} entries up to "
            f"{session.head_sha256[:12] or 'none'}, the ledger {len(entries)} up to "
            f"{head[:12] or 'none'}",
        )
    return None


def _sha256(facts: object) -> str:
    return sha256(_CANONICAL.encode(facts).encode()).hexdigest()
