"""The arithmetic of budgets: every movement of GPU-ms, as pure functions.

Each function takes the session (and job) as they are and returns them as they become,
with the entry that says so. Nobody else changes `limit`, `held` or `spent`.

The accounts of the double entry:

| account | its balance is |
| --- | --- |
| `issued` | minus everything any session was ever given |
| `available:<session>` | what a new hold may take |
| `held:<job>` | what the job's hold still has |
| `spent:<session>` | what was settled |
| `worked` | minus the device time nobody paid |
| `farm_loss` | the device time nobody paid |

The entries of a session are a chain: each has the digest of the one before, and the session
has that of the newest. Whoever changes a session's balances has locked its row, so the chain
costs one SHA-256 an entry and no lock or query.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from orchestrator.errors import BudgetExceeded
from orchestrator.model import Entry, Job, Json, Session
from orchestrator.states import EntryKind, SessionState


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """A change of balances and the entry that records it; `entry` is None when it is of 0."""

    session: Session
    job: Job | None
    entry: Entry | None


def give(session: Session, gpu_ms: int, *, entry_id: str, now_ms: int, top_up: bool) -> Movement:
    """Raise a session's limit: at its opening, or as a top-up."""
    assert gpu_ms > 0
    kind = EntryKind.TOP_UP if top_up else EntryKind.GRANT
    return _movement(
        replace(session, limit_gpu_ms=session.limit_gpu_ms + gpu_ms),
        None,
        _entry(
            kind,
            session,
            None,
            gpu_ms,
            entry_id=entry_id,
            now_ms=now_ms,
            debit="issued",
            credit=f"available:{session.id}",
        ),
    )


def hold(
    session: Session, job: Job, gpu_ms: int, *, entry_id: str, now_ms: int, first: bool
) -> Movement:
    """Set budget aside for a job: place (`first`) or extend its hold.

    Raises:
        BudgetExceeded: the session or the job's own cap has less than that.
    """
    room = extendable_gpu_ms(session, job)
    if gpu_ms > room:
        raise BudgetExceeded(
            f"The job needs {gpu_ms / 1000:.3f} GPU-seconds held, {room / 1000:.3f} are left.",
            needed_gpu_ms=gpu_ms,
            available_gpu_ms=room,
        )
    return _movement(
        replace(session, held_gpu_ms=session.held_gpu_ms + gpu_ms),
        replace(job, held_gpu_ms=job.held_gpu_ms + gpu_ms),
        _entry(
            EntryKind.PLACE if first else EntryKind.EXTEND,
            session,
            job,
            gpu_ms,
            entry_id=entry_id,
            now_ms=now_ms,
            debit=f"available:{session.id}",
            credit=f"held:{job.id}",
        ),
    )


def settle(
    session: Session,
    job: Job,
    gpu_ms: int,
    *,
    lease_id: str,
    entry_id: str,
    now_ms: int,
    price_microusd: int = 0,
    rates: str = "",
    receipt_sha256: str = "",
) -> Movement:
    """Spend what a lease measured, out of the job's hold, at its price."""
    assert 0 <= gpu_ms <= job.held_gpu_ms, "a lease's limit lies within the hold"
    return _movement(
        replace(
            session,
            held_gpu_ms=session.held_gpu_ms - gpu_ms,
            spent_gpu_ms=session.spent_gpu_ms + gpu_ms,
        ),
        replace(job, held_gpu_ms=job.held_gpu_ms - gpu_ms, spent_gpu_ms=job.spent_gpu_ms + gpu_ms),
        _entry(
            EntryKind.SETTLE,
            session,
            job,
            gpu_ms,
            entry_id=entry_id,
            now_ms=now_ms,
            debit=f"held:{job.id}",
            credit=f"spent:{session.id}",
            lease_id=lease_id,
            price_microusd=price_microusd,
            rates=rates,
            receipt_sha256=receipt_sha256,
        ),
    )


def release(
    session: Session, job: Job, *, keep_gpu_ms: int = 0, entry_id: str, now_ms: int
) -> Movement:
    """Give back what a job holds, all but `keep_gpu_ms`."""
    gpu_ms = max(0, job.held_gpu_ms - keep_gpu_ms)
    return _movement(
        replace(session, held_gpu_ms=session.held_gpu_ms - gpu_ms),
        replace(job, held_gpu_ms=job.held_gpu_ms - gpu_ms),
        _entry(
            EntryKind.RELEASE,
            session,
            job,
            gpu_ms,
            entry_id=entry_id,
            now_ms=now_ms,
            debit=f"held:{job.id}",
            credit=f"available:{session.id}",
        ),
    )


def lose(
    session: Session,
    job: Job,
    gpu_ms: int,
    *,
    lease_id: str,
    entry_id: str,
    now_ms: int,
    note: str,
    receipt_sha256: str = "",
) -> Movement:
    """Record device time that nobody is charged for; no balance of the session changes."""
    return _movement(
        session,
        job,
        _entry(
            EntryKind.LOSS,
            session,
            job,
            gpu_ms,
            entry_id=entry_id,
            now_ms=now_ms,
            debit="worked",
            credit="farm_loss",
            lease_id=lease_id,
            note=note,
            receipt_sha256=receipt_sha256,
        ),
    )


def refund(session: Session, job: Job, settled: Entry, *, entry_id: str, now_ms: int) -> Movement:
    """Take a settlement back: its GPU-ms and its price."""
    assert settled.kind is EntryKind.SETTLE
    return _movement(
        replace(session, spent_gpu_ms=session.spent_gpu_ms - settled.gpu_ms),
        replace(
            job,
            spent_gpu_ms=job.spent_gpu_ms - settled.gpu_ms,
            refunded_gpu_ms=job.refunded_gpu_ms + settled.gpu_ms,
        ),
        _entry(
            EntryKind.REFUND,
            session,
            job,
            settled.gpu_ms,
            entry_id=entry_id,
            now_ms=now_ms,
            debit=f"spent:{session.id}",
            credit=f"available:{session.id}",
            lease_id=settled.lease_id,
            note="the farm could not finish the job",
            price_microusd=-settled.price_microusd,
            rates=settled.rates,
            receipt_sha256=settled.receipt_sha256,
        ),
    )


def extendable_gpu_ms(session: Session, job: Job) -> int:
    """What the job's hold may still grow by: the session's room, within the job's cap."""
    room = session.available_gpu_ms if session.state is SessionState.OPEN else 0
    if job.cap_gpu_ms is not None:
        room = min(room, job.cap_gpu_ms - job.held_gpu_ms - job.spent_gpu_ms)
    return max(0, room)


def hold_for(p50_gpu_ms: int, p90_gpu_ms: int, cap_gpu_ms: int | None) -> int:
    """What to hold at submission: min(p90, cap).

    Raises:
        BudgetExceeded: the cap lies under the p50, so that the job would likely end unfinished.
    """
    if cap_gpu_ms is not None and cap_gpu_ms < p50_gpu_ms:
        raise BudgetExceeded(
            f"max_gpu_seconds is {cap_gpu_ms / 1000:.3f}, but this job likely needs "
            f"{p50_gpu_ms / 1000:.3f} GPU-seconds.",
            next="Raise max_gpu_seconds, or take one of the alternatives; nothing was charged.",
            needed_gpu_ms=p50_gpu_ms,
            available_gpu_ms=cap_gpu_ms,
        )
    return p90_gpu_ms if cap_gpu_ms is None else min(p90_gpu_ms, cap_gpu_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What a lease may use, and what the hold must grow by first; 0: not even its floor fits."""

    gpu_ms: int
    extend_gpu_ms: int = 0


def lease_limit(
    session: Session,
    job: Job,
    *,
    open_gpu_ms: int,
    reserve_gpu_ms: int,
    p90_gpu_ms: int,
    floor_gpu_ms: int,
    margin: float,
) -> Limit:
    """Return min(p90 × margin, hold − open leases − reserve), extending the hold where it can.

    `open_gpu_ms`: the limits of the job's open leases; `reserve_gpu_ms`: what must stay for
    the encode unit.
    """
    want = max(math.ceil(p90_gpu_ms * margin), floor_gpu_ms)
    room = max(0, job.held_gpu_ms - open_gpu_ms - reserve_gpu_ms)
    extend = min(max(0, want - room), extendable_gpu_ms(session, job))
    limit = min(want, room + extend)
    if limit < floor_gpu_ms:
        return Limit(gpu_ms=0)
    return Limit(gpu_ms=limit, extend_gpu_ms=extend)


def charge(*, reported_gpu_ms: int, limit_gpu_ms: int, seen_gpu_ms: int) -> int:
    """Return what a lease is charged: min(reported, limit, device time the farm saw)."""
    return max(0, min(reported_gpu_ms, limit_gpu_ms, seen_gpu_ms))


# --- the chain ----------------------------------------------------------------------------


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
        entry.job_id,
        entry.lease_id,
        entry.gpu_ms,
        entry.debit,
        entry.credit,
        entry.note,
        entry.price_microusd,
        entry.rates,
        entry.receipt_sha256,
    )
    return _sha256(facts)


def receipt_digest(receipt: Json) -> str:
    """Return the SHA-256 of what a worker reported of a lease: its JSON, keys sorted."""
    return _sha256(receipt)


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


# --- inside -------------------------------------------------------------------------------


def _sha256(facts: object) -> str:
    text = json.dumps(facts, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()


def _movement(session: Session, job: Job | None, entry: Entry | None) -> Movement:
    if entry is not None:
        session, entry = chained(session, entry)
    return Movement(session=session, job=job, entry=entry)


def _entry(
    kind: EntryKind,
    session: Session,
    job: Job | None,
    gpu_ms: int,
    *,
    entry_id: str,
    now_ms: int,
    debit: str,
    credit: str,
    **more: Any,
) -> Entry | None:
    if gpu_ms == 0:
        return None
    return Entry(
        id=entry_id,
        at_ms=now_ms,
        kind=kind,
        session_id=session.id,
        job_id=job.id if job else None,
        gpu_ms=gpu_ms,
        debit=debit,
        credit=credit,
        **more,
    )
