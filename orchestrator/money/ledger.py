"""The arithmetic of budgets: every movement of GPU-ms, as pure functions.

Each function takes the session (and job) as they are and returns them as they become,
with the entry that says so. Nobody else changes `limit`, `held` or `spent`.

The accounts of the double entry stand in docs/ledger.md. An entry moves GPU-ms between two of
them; one with a price moves money between two others too, which `money` derives from it.
"""

import math
from dataclasses import dataclass, replace
from typing import Final, TypedDict, Unpack

from orchestrator.errors import BudgetExceeded
from orchestrator.model import Allowance, Brief, Entry, Job, Month, Quote, Session, Unit
from orchestrator.money import hash_chain
from orchestrator.states import EntryKind, OnExhausted, Pricing, SessionState, UnitKind

OVER_QUOTE: Final = "over quote"
"""Note of a loss: device time beyond what a job with a ceiling held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """A change of balances and the entry that records it; `entry` is None when it is of 0."""

    session: Session
    job: Job | None
    entry: Entry | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """Money that an entry moves: whole micro-USD from the `debit` to the `credit` account."""

    debit: str
    credit: str
    microusd: int


def money(entry: Entry) -> Money | None:
    """Return the second leg of an entry; None where it has no price.

    A settlement's price goes from what its session owes to what the farm earned, a refund's the
    way back. No row is written for it: the price and its rate card are under the entry's digest.
    """
    owed = f"receivable:{entry.session_id}"
    price = entry.price_microusd
    if price < 0:
        return Money(debit="revenue", credit=owed, microusd=-price)
    return Money(debit=owed, credit="revenue", microusd=price) if price else None


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


def take(session: Session, gpu_ms: int, *, entry_id: str, now_ms: int) -> Movement:
    """Lower a session's limit by what is available."""
    assert 0 <= gpu_ms <= session.available_gpu_ms
    return _movement(
        replace(session, limit_gpu_ms=session.limit_gpu_ms - gpu_ms),
        None,
        _entry(
            EntryKind.TAKE,
            session,
            None,
            gpu_ms,
            entry_id=entry_id,
            now_ms=now_ms,
            debit=f"available:{session.id}",
            credit="issued",
        ),
    )


def pending_gpu_ms(session: Session) -> int:
    """Return the rest that is to be taken of a limit that was asked to be lower."""
    if session.target_gpu_ms is None:
        return 0
    return max(0, session.limit_gpu_ms - session.target_gpu_ms)


def sink_gpu_ms(session: Session) -> int:
    """Return the part of it that can be taken now."""
    return min(session.available_gpu_ms, pending_gpu_ms(session))


def hold(
    session: Session, job: Job, gpu_ms: int, *, entry_id: str, now_ms: int, first: bool
) -> Movement:
    """Set budget aside for a job: place (`first`) or extend its hold.

    Raises:
        BudgetExceeded: the session or the job's own cap has less than that.
    """
    room = extendable_gpu_ms(session, job, None, None)
    if gpu_ms > room:
        if session.state is not SessionState.OPEN:
            raise BudgetExceeded(
                f"Session {session.name!r} is closed; it gives no job anything.",
                needed_gpu_ms=gpu_ms,
                available_gpu_ms=room,
            )
        raise BudgetExceeded(
            f"The job needs {gpu_ms / 1000:.3f} GPU-seconds held; session {session.name!r} has "
            f"{session.available_gpu_ms / 1000:.3f} of {session.limit_gpu_ms / 1000:.3f} left "
            f"({session.held_gpu_ms / 1000:.3f} held, {session.spent_gpu_ms / 1000:.3f} spent).",
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
            month_id=settled.month_id,
            note="the farm could not finish the job",
            price_microusd=-settled.price_microusd,
            rates=settled.rates,
            receipt_sha256=settled.receipt_sha256,
        ),
    )


def extendable_gpu_ms(
    session: Session, job: Job, month: Month | None, allowance: Allowance | None
) -> int:
    """Return what the job's hold may still grow by: the session's room, within its cap or ceiling.

    `month`: the account's, and `allowance`: its key's allowance, which bound it too.
    """
    room = session.available_gpu_ms if session.state is SessionState.OPEN else 0
    if month is not None and month.available_gpu_ms is not None:
        room = min(room, month.available_gpu_ms)
    if allowance is not None:
        room = min(room, allowance.available_gpu_ms)
    if job.cap_gpu_ms is not None:
        room = min(room, job.cap_gpu_ms - job.held_gpu_ms - job.spent_gpu_ms)
    if job.ceiling_gpu_ms is not None:
        room = min(room, job.ceiling_gpu_ms - job.held_gpu_ms - job.spent_gpu_ms)
    return max(0, room)


def rooms(session: Session, job: Job, month: Month, allowance: Allowance | None) -> dict[str, int]:
    """Return by how much each limit lets a job's hold grow, by the limit's name."""
    found = {"session": session.available_gpu_ms if session.state is SessionState.OPEN else 0}
    if month.available_gpu_ms is not None:
        found["month"] = month.available_gpu_ms
    if allowance is not None:
        found["key"] = allowance.available_gpu_ms
    if job.cap_gpu_ms is not None:
        found["max_gpu_seconds"] = job.cap_gpu_ms - job.held_gpu_ms - job.spent_gpu_ms
    return {limit: max(0, room) for limit, room in found.items()}


def binding_limit(session: Session, job: Job, month: Month, allowance: Allowance | None) -> str:
    """Return which limit lets a hold grow the least, by name."""
    if session.state is not SessionState.OPEN:
        return "session_closed"
    room = extendable_gpu_ms(session, job, month, allowance)
    if job.cap_gpu_ms is not None and job.cap_gpu_ms - job.held_gpu_ms - job.spent_gpu_ms <= room:
        return "max_gpu_seconds"
    if allowance is not None and allowance.available_gpu_ms <= room:
        return "key"
    return "month" if room < session.available_gpu_ms else "session"


def ceiling_for(quote: Quote, brief: Brief, price: Pricing) -> int | None:
    """Return the most that a job is charged; None: it is metered, by its plan or its own cap."""
    cap = brief.max_gpu_ms
    if price is Pricing.METERED or (cap is not None and cap < quote.ceiling_gpu_ms):
        return None
    return quote.ceiling_gpu_ms


def hold_for(quote: Quote, brief: Brief, price: Pricing) -> int:
    """Return what to hold at submission: the ceiling, or of a metered job min(p90, cap).

    Raises:
        BudgetExceeded: the cap lies under the p50, so that the job would likely end unfinished;
            of a job that may end with what is finished, under what its shortest video needs.
    """
    ceiling = ceiling_for(quote, brief, price)
    if ceiling is not None:
        return ceiling
    cap = brief.max_gpu_ms
    short = brief.on_exhausted is OnExhausted.FINISH
    needed = min(quote.p50_gpu_ms, quote.least_gpu_ms) if short else quote.p50_gpu_ms
    if cap is not None and cap < needed:
        raise BudgetExceeded(
            f"max_gpu_seconds is {cap / 1000:.3f}, but "
            + ("the shortest video of this job" if short else "this job likely")
            + f" needs {needed / 1000:.3f} GPU-seconds.",
            limit="max_gpu_seconds",
            needed_gpu_ms=needed,
            available_gpu_ms=cap,
        )
    return quote.p90_gpu_ms if cap is None else min(quote.p90_gpu_ms, cap)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """Limit of a lease, and growth of the hold that it needs first; 0: not even its floor fits."""

    gpu_ms: int
    extend_gpu_ms: int = 0


def lease_limit(
    session: Session,
    job: Job,
    month: Month,
    allowance: Allowance | None,
    *,
    open_gpu_ms: int,
    reserve_gpu_ms: int,
    p90_gpu_ms: int,
    minimum_gpu_ms: int,
    margin: float,
) -> Limit:
    """Return min(p90 × margin, hold − open leases − reserve), extending the hold where it can.

    `open_gpu_ms`: the limits of the job's open leases; `reserve_gpu_ms`: what must stay for
    the encode unit. A job with a ceiling has min(p90 × margin, what it may run for − what it ran
    − open leases − reserve): beyond its hold it works at the farm's cost.
    """
    want = max(math.ceil(p90_gpu_ms * margin), minimum_gpu_ms)
    if job.runaway_gpu_ms is not None:
        ran = job.spent_gpu_ms + job.refunded_gpu_ms + job.over_quote_gpu_ms
        limit = min(want, job.runaway_gpu_ms - ran - open_gpu_ms - reserve_gpu_ms)
        return Limit(gpu_ms=limit if limit >= minimum_gpu_ms else 0)
    room = max(0, job.held_gpu_ms - open_gpu_ms - reserve_gpu_ms)
    extend = min(max(0, want - room), extendable_gpu_ms(session, job, month, allowance))
    limit = min(want, room + extend)
    if limit < minimum_gpu_ms:
        return Limit(gpu_ms=0)
    return Limit(gpu_ms=limit, extend_gpu_ms=extend)


def charge(*, reported_gpu_ms: int, limit_gpu_ms: int, seen_gpu_ms: int) -> int:
    """Return what a lease is charged: min(reported, limit, device time the farm saw)."""
    return max(0, min(reported_gpu_ms, limit_gpu_ms, seen_gpu_ms))


def payable(job: Job, kind: UnitKind, gpu_ms: int) -> int:
    """Return what of a lease's charge its session pays: of a job with a ceiling, what it holds.

    The encode reserve stays for the encode unit.
    """
    if job.ceiling_gpu_ms is None:
        return gpu_ms
    reserve = 0 if kind is UnitKind.ENCODE else job.encode_reserve_gpu_ms
    return min(gpu_ms, max(0, job.held_gpu_ms - reserve))


# --- inside -------------------------------------------------------------------------------


def _movement(session: Session, job: Job | None, entry: Entry | None) -> Movement:
    if entry is not None:
        session, entry = hash_chain.chained(session, entry)
    return Movement(session=session, job=job, entry=entry)


class _More(TypedDict, total=False):
    lease_id: str | None
    month_id: str | None
    note: str
    price_microusd: int
    rates: str
    receipt_sha256: str


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
    **more: Unpack[_More],
) -> Entry | None:
    if gpu_ms == 0:
        return None
    more.setdefault("month_id", job.month_id if job else None)
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


def least_gpu_ms(job: Job, units: list[Unit]) -> int:
    """Return what the next of a job's open units needs held, the encode reserve beside it.

    Of a job with a ceiling it is what is left of that: it holds it all, or does not run. One that
    only has to be encoded needs no more than for that, and no more than its ceiling either:
    beyond it the farm pays.
    """
    if not units:
        return 0
    unit = min(units, key=lambda each: (each.created_at_ms, each.id))  # as they are granted
    reserve = 0 if unit.kind is UnitKind.ENCODE else job.encode_reserve_gpu_ms
    return _within_ceiling(job, unit.minimum_gpu_ms + reserve)


def rest_gpu_ms(job: Job, units: list[Unit], encode_gpu_ms: int = 0) -> int:
    """Return what the rest of a job needs at p90, its encoding included.

    `encode_gpu_ms`: what that is likely to need, where it is more than the reserve.

    A job with a ceiling needs as in `least_gpu_ms`.
    """
    need = sum(unit.p90_gpu_ms for unit in units)
    if all(unit.kind is not UnitKind.ENCODE for unit in units):
        need += max(job.encode_reserve_gpu_ms, encode_gpu_ms)
    if not job.parsed:
        need += next(
            stage.p90_gpu_ms for stage in job.quote.stages if stage.stage is UnitKind.RENDER
        )
    return _within_ceiling(job, need)


def _within_ceiling(job: Job, need_gpu_ms: int) -> int:
    """Return what a job needs held: of one with a ceiling all that is left, or less to encode."""
    if job.ceiling_gpu_ms is None:
        return need_gpu_ms
    left = job.ceiling_gpu_ms - job.spent_gpu_ms
    return min(need_gpu_ms, left) if job.truncated else left
