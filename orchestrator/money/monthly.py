"""The account's month above its sessions, and the alerts of both, as pure functions.

What a job holds and settles in its session, its account holds and settles in the month: the same
entries move both, so that account month >= session >= job >= lease.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from orchestrator.errors import BudgetExceeded
from orchestrator.model import Alert, Entry, Job, Month, Session
from orchestrator.money import hash_chain
from orchestrator.money.ledger import Movement
from orchestrator.states import AlertAction, EntryKind

_IN_MONTH: Final = {
    EntryKind.PLACE: (1, 0),
    EntryKind.EXTEND: (1, 0),
    EntryKind.SETTLE: (-1, 1),
    EntryKind.RELEASE: (-1, 0),
    EntryKind.REFUND: (0, -1),
}
"""Effect of an entry on (held, spent) of its month."""


def follow(month: Month, entry: Entry) -> Month:
    """Move the account's month as an entry moves its session.

    A limit above the plan's cap, left from a higher plan, sinks as room comes back.

    Raises:
        BudgetExceeded: the month has less than a hold would take.
    """
    held, spent = _IN_MONTH.get(entry.kind, (0, 0))
    room = month.available_gpu_ms
    if held > 0 and room is not None and entry.gpu_ms > room:
        raise BudgetExceeded(
            f"The account's month has {room / 1000:.3f} GPU-seconds left, the job needs "
            f"{entry.gpu_ms / 1000:.3f}.",
            next="Wait for the next month, ask for less, or have the operator change the plan "
            "(`farm account set-plan`).",
            limit="month",
            needed_gpu_ms=entry.gpu_ms,
            available_gpu_ms=room,
        )
    moved = replace(
        month,
        held_gpu_ms=month.held_gpu_ms + held * entry.gpu_ms,
        spent_gpu_ms=month.spent_gpu_ms + spent * entry.gpu_ms,
    )
    return capped(moved, moved.cap_gpu_ms) if held <= 0 else moved


def capped(month: Month, cap_gpu_ms: int | None) -> Month:
    """Give a month another cap: its limit never lies below what is held and spent."""
    if cap_gpu_ms is None:
        return replace(month, cap_gpu_ms=None, limit_gpu_ms=None)
    used = month.held_gpu_ms + month.spent_gpu_ms
    return replace(month, cap_gpu_ms=cap_gpu_ms, limit_gpu_ms=max(cap_gpu_ms, used))


def carry(job: Job, old: Month, new: Month) -> tuple[Job, Month, Month]:
    """Bring what a job holds into another month, in which it goes on.

    Raises:
        BudgetExceeded: that month has less.
    """
    room = new.available_gpu_ms
    if room is not None and job.held_gpu_ms > room:
        raise BudgetExceeded(
            f"The job holds {job.held_gpu_ms / 1000:.3f} GPU-seconds, which its account's month "
            f"would have to set aside; it has {room / 1000:.3f} left.",
            limit="month",
            needed_gpu_ms=job.held_gpu_ms,
            available_gpu_ms=room,
        )
    left = replace(old, held_gpu_ms=old.held_gpu_ms - job.held_gpu_ms)
    return (
        replace(job, month_id=new.id),
        capped(left, left.cap_gpu_ms),
        replace(new, held_gpu_ms=new.held_gpu_ms + job.held_gpu_ms),
    )


def crossed(alerts: Sequence[Alert], budget: Session | Month) -> tuple[Alert, ...]:
    """Return the alerts that spending has reached, in their order."""
    spent, limit = budget.spent_gpu_ms, budget.limit_gpu_ms
    if not limit:
        return ()
    return tuple(alert for alert in alerts if 100 * spent >= alert.percent * limit)


def alert(session: Session, given: Alert, *, of: str, entry_id: str, now_ms: int) -> Movement:
    """Write down that a budget crossed an alert; no balance changes."""
    does = "" if given.action is AlertAction.NOTIFY else f": {given.action}"
    entry = Entry(
        id=entry_id,
        at_ms=now_ms,
        kind=EntryKind.ALERT,
        session_id=session.id,
        gpu_ms=0,
        debit=f"spent:{session.id}",
        credit="alert",
        note=f"{given.percent} % of {of} is spent{does}",
    )
    session, entry = hash_chain.chained(session, entry)
    return Movement(session=session, job=None, entry=entry)
