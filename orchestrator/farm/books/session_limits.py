"""The most that a session may hold: its own limit, within what its account's plan gives."""

from dataclasses import replace

from orchestrator.errors import Conflict
from orchestrator.farm.books import alerts
from orchestrator.farm.kernel import Farm
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.model import Account, Month, Session
from orchestrator.money import ledger
from orchestrator.money.plans import Plan
from orchestrator.remedies import MoveDefault, OpenSession, Remedy, Reopen
from orchestrator.states import SessionState


def check_open(tx: Transaction, session: Session, *, alone: bool = False) -> None:
    """Refuse what only an open session takes; `alone`: where no other one will do.

    Raises:
        Conflict: it is closed.
    """
    if session.state is not SessionState.OPEN:
        standing = ", and it is the account's default" if is_default(tx, session) else ""
        raise Conflict(
            f"Session {session.name!r} is closed{standing}.",
            *when_closed(tx, session)[: 1 if alone else None],
            session_id=session.id,
        )


def is_default(tx: Transaction, session: Session) -> bool:
    """Tell whether requests that name no session mean this one."""
    account = tx.get(Account, session.account_id)
    return account is not None and account.default_session_id == session.id


def when_closed(tx: Transaction, session: Session) -> tuple[Remedy, ...]:
    """Return the ways on from a closed session, the best first."""
    again, whose = Reopen(session.id, session.name), session.account_id
    others = tx.find(Session, account_id=whose, state=SessionState.OPEN, order="-id", limit=1)
    if not others or not is_default(tx, session):
        return again, OpenSession()
    return again, MoveDefault(others[0].id, others[0].name)


def within(farm: Farm, tx: Transaction, session: Session, month: Month, now_ms: int) -> Session:
    """Lower an open session, which is locked, to the most that the plan of its month gives."""
    most = _too_much(session, farm.plans.get(month.plan))
    if most is None:
        return session
    asked = replace(session, target_gpu_ms=most)
    return sink(farm, tx, session, asked, month, now_ms)


def seen_within(session: Session, plan: Plan | None) -> Session:
    """Return a session as `within` would leave it; nothing is written."""
    most = _too_much(session, plan)
    if most is None:
        return session
    used = session.held_gpu_ms + session.spent_gpu_ms
    return replace(session, target_gpu_ms=most, limit_gpu_ms=max(most, used))


def _too_much(session: Session, plan: Plan | None) -> int | None:
    """Return the plan's most where an open session is to have more than that."""
    most = plan.most_session_gpu_ms if plan else None
    aim = session.limit_gpu_ms - ledger.pending_gpu_ms(session)
    return None if most is None or session.state is not SessionState.OPEN or aim <= most else most


def sink(
    farm: Farm, tx: Transaction, was: Session, asked: Session, month: Month, now_ms: int
) -> Session:
    """Write a session whose limit changes, and take what is available of what is to be lower."""
    movement = ledger.take(
        asked, ledger.sink_gpu_ms(asked), entry_id=farm.new_id("ent", now_ms), now_ms=now_ms
    )
    if movement.entry:
        tx.add(movement.entry)
    return tx.save(was, alerts.looked(farm, tx, movement.session, month, now_ms))
