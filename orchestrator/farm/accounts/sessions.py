"""Sessions: envelopes of budget."""

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.errors import BadRequest, Conflict, NotFound
from orchestrator.farm.books import alerts, months, session_limits
from orchestrator.farm.jobs.pausing import resume_for_budget
from orchestrator.farm.kernel import Farm, Idempotency, Page, audit_log
from orchestrator.farm.kernel.idempotency import answered, remember
from orchestrator.farm.kernel.owned import named_session, own_session
from orchestrator.farm.kernel.paging import page, part
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.farm.kernel.where import SessionMatch
from orchestrator.model import Account, Alert, Entry, Session
from orchestrator.money import ledger
from orchestrator.remedies import Say, TopUp
from orchestrator.states import SessionState

MAX_GPU_MS = 10**12
"""Thirty years of one device: more is a slip of the pen."""


def create(
    farm: Farm,
    *,
    account_id: str,
    name: str,
    budget_gpu_ms: int | None = None,
    own_alerts: Sequence[Alert] | None = None,
    idempotency: Idempotency | None = None,
) -> Session:
    """Open a session with a budget, or with what the account's plan gives.

    `own_alerts`: instead of the plan's.

    Raises:
        BadRequest: its budget is not possible, or its alerts make no sense.
        Conflict: the account has a session of this name.
        PlanLimit: the account has no plan, or one that allows less.
    """
    if budget_gpu_ms is not None:
        _check_amount(budget_gpu_ms, zero=True)
    now, kept = farm.clock(), alerts.checked(own_alerts)
    with farm.store.write() as tx:
        tx.get(Account, account_id, lock=True)  # the same request beside this one waits here
        earlier = answered(tx, account_id, idempotency)
        if earlier:
            return own_session(tx, account_id, earlier)
        plan = months.plan_of(farm, tx, months.seen(farm, tx, account_id, now))
        if budget_gpu_ms is None:
            budget_gpu_ms = plan.session_gpu_ms
        plan.check_session(budget_gpu_ms, account_id=account_id)
        if there := tx.find(Session, account_id=account_id, name=name):
            raise Conflict(
                f"There is a session named {name!r} already.",
                Say("Choose another name."),
                TopUp(there[0].id, name),
            )
        session = open_session(farm, tx, account_id, name, budget_gpu_ms, own_alerts=kept)
        remember(tx, account_id, idempotency, session.id, now)
        audit_log.note(farm, tx, "session.create", session.id, account_id, gpu_ms=budget_gpu_ms)
    return session


def open_session(
    farm: Farm,
    tx: Transaction,
    account_id: str,
    name: str,
    budget_gpu_ms: int,
    *,
    own_alerts: tuple[Alert, ...] | None = None,
    session_id: str | None = None,
) -> Session:
    """Write a new session and the entry of its budget within an open transaction."""
    now = farm.clock()
    session = Session(
        id=session_id or farm.new_id("ses", now),
        account_id=account_id,
        name=name,
        limit_gpu_ms=0,
        alerts=own_alerts,
        created_at_ms=now,
    )
    entry = None
    if budget_gpu_ms:
        movement = ledger.give(
            session, budget_gpu_ms, entry_id=farm.new_id("ent", now), now_ms=now, top_up=False
        )
        session, entry = movement.session, movement.entry
    tx.add(session)
    if entry:
        tx.add(entry)
    return session


def get(farm: Farm, account_id: str | None, session_id: str) -> Session:
    """Return a session by id."""
    with farm.store.read() as tx:
        return own_session(tx, account_id, session_id)


def find(farm: Farm, account_id: str, name_or_id: str | None) -> Session:
    """Return a session by id or name; the account's default one when None."""
    with farm.store.read() as tx:
        return named_session(tx, account_id, name_or_id)


def look(farm: Farm, own: str, scope: str | None, name_or_id: str) -> Session:
    """Return a session of the own account by name or id, or one that `scope` may see by id."""
    with farm.store.read() as tx:
        try:
            return named_session(tx, own, name_or_id)
        except NotFound:
            return own_session(tx, scope, name_or_id)


def listing(
    farm: Farm, account_id: str | None, *, limit: int = 50, after: str | None = None
) -> Page[Session]:
    """Return sessions, newest first. `account_id` None: of every account."""
    where: SessionMatch = {}
    if account_id is not None:
        where["account_id"] = account_id
    with farm.store.read() as tx:
        return page(tx.find(Session, **where, **part(limit, after)), limit)


def top_up(
    farm: Farm,
    account_id: str | None,
    session_id: str,
    gpu_ms: int,
    idempotency: Idempotency | None = None,
) -> Session:
    """Raise a session's limit, and let the jobs go on that waited for budget.

    A limit that still sinks goes on sinking, to that much more.
    """
    _check_amount(gpu_ms, zero=False)
    now = farm.clock()
    with farm.store.write() as tx:
        session = own_session(tx, account_id, session_id, lock=True)
        if answered(tx, session.account_id, idempotency):
            return session
        session_limits.check_open(tx, session)
        pending = ledger.pending_gpu_ms(session)
        aim = session.limit_gpu_ms - pending + gpu_ms
        _check_amount(aim, zero=False)
        month = months.seen(farm, tx, session.account_id, now)
        plan = months.plan_of(farm, tx, month)
        plan.check_session(aim, account_id=session.account_id)
        movement = ledger.give(
            session, gpu_ms, entry_id=farm.new_id("ent", now), now_ms=now, top_up=True
        )
        tx.add(movement.entry)
        raised = replace(movement.session, target_gpu_ms=aim if pending else None)
        session_limits.sink(farm, tx, session, raised, month, now)
        remember(tx, session.account_id, idempotency, session.id, now)
        audit_log.note(farm, tx, "session.top_up", session.id, session.account_id, gpu_ms=gpu_ms)
        resume_for_budget(farm, tx, session.id, now)
        return own_session(tx, account_id, session_id)


def lower(farm: Farm, account_id: str | None, session_id: str, limit_gpu_ms: int) -> Session:
    """Lower a session's limit: at once by what is available, and by the rest as holds release.

    Raises:
        BadRequest: that is not less than the limit.
    """
    _check_amount(limit_gpu_ms, zero=True)
    now = farm.clock()
    with farm.store.write() as tx:
        session = own_session(tx, account_id, session_id, lock=True)
        if limit_gpu_ms >= session.limit_gpu_ms:
            raise BadRequest(
                f"The limit is {session.limit_gpu_ms / 1000:.3f} GPU-seconds; that is not lower.",
                TopUp(session.id, session.name),
            )
        audit_log.note(
            farm, tx, "session.lower", session.id, session.account_id, gpu_ms=limit_gpu_ms
        )
        month = months.seen(farm, tx, session.account_id, now)
        asked = replace(session, target_gpu_ms=limit_gpu_ms)
        return session_limits.sink(farm, tx, session, asked, month, now)


def alerts_of(farm: Farm, rows: Sequence[Session]) -> dict[str, tuple[Alert, ...]]:
    """Return the alerts that hold for each of these sessions, by id: its own or its plan's."""
    now = farm.clock()
    with farm.store.read() as tx:
        accounts = {row.account_id for row in rows}
        month = {account: months.seen(farm, tx, account, now) for account in accounts}
    return {row.id: alerts.of(farm, row, month[row.account_id]) for row in rows}


def set_alerts(
    farm: Farm, account_id: str | None, session_id: str, wanted: Sequence[Alert] | None
) -> Session:
    """Give a session alerts of its own; None: its plan's again. They hold at once.

    Raises:
        BadRequest: the list makes no sense.
    """
    now, kept = farm.clock(), alerts.checked(wanted)
    with farm.store.write() as tx:
        session = own_session(tx, account_id, session_id, lock=True)
        if session.alerts == kept:
            return session
        month = months.seen(farm, tx, session.account_id, now)
        changed = alerts.looked(farm, tx, replace(session, alerts=kept), month, now)
        tx.save(session, changed)
        audit_log.note(
            farm, tx, "session.alerts", session.id, session.account_id, alerts=alerts.in_words(kept)
        )
        resume_for_budget(farm, tx, session.id, now)
        return own_session(tx, account_id, session_id)


def close(farm: Farm, account_id: str | None, session_id: str) -> Session:
    """Take no more jobs in this session until it is reopened; what runs finishes within its hold.

    While it is the account's default, requests that name no session are refused.
    """
    with farm.store.write() as tx:
        session = own_session(tx, account_id, session_id, lock=True)
        if session.state is SessionState.CLOSED:
            return session
        audit_log.note(farm, tx, "session.close", session.id, session.account_id, name=session.name)
        return tx.save(session, replace(session, state=SessionState.CLOSED))


def reopen(farm: Farm, account_id: str | None, session_id: str) -> Session:
    """Take jobs in a closed session again, within its plan of now; what waits in it goes on.

    Its limit, and what it spent, are what they were.
    """
    now = farm.clock()
    with farm.store.write() as tx:
        session = own_session(tx, account_id, session_id, lock=True)
        if session.state is SessionState.OPEN:
            return session
        audit_log.note(
            farm, tx, "session.reopen", session.id, session.account_id, name=session.name
        )
        opened = tx.save(session, replace(session, state=SessionState.OPEN))
        month = months.seen(farm, tx, session.account_id, now)
        session_limits.within(farm, tx, opened, month, now)
        resume_for_budget(farm, tx, session.id, now)
        return own_session(tx, account_id, session_id)


def make_default(farm: Farm, account_id: str | None, session_id: str) -> Session:
    """Make an open session the one that its account's requests mean that name none.

    Raises:
        Conflict: it is closed.
    """
    with farm.store.write() as tx:
        owner = own_session(tx, account_id, session_id).account_id
        account = tx.get(Account, owner, lock=True)  # first, as where its plan changes
        assert account, "a session names its account"
        session = own_session(tx, account_id, session_id, lock=True)
        session_limits.check_open(tx, session)
        if account.default_session_id != session.id:
            tx.save(account, replace(account, default_session_id=session.id))
            audit_log.note(
                farm, tx, "session.default", session.id, session.account_id, name=session.name
            )
        return session


def defaults_of(farm: Farm, rows: Sequence[Session]) -> frozenset[str]:
    """Return the ids of those of these sessions that are their account's default."""
    with farm.store.read() as tx:
        found = tx.find(Account, id=tuple({row.account_id for row in rows}))
    return frozenset(account.default_session_id for account in found)


def ledger_page(
    farm: Farm,
    account_id: str | None,
    session_id: str,
    *,
    limit: int = 100,
    after: str | None = None,
) -> Page[Entry]:
    """Return a session's entries, newest first."""
    with farm.store.read() as tx:
        session = own_session(tx, account_id, session_id)
        return page(tx.find(Entry, session_id=session.id, **part(limit, after)), limit)


def entries(farm: Farm, account_id: str | None, session_id: str) -> list[Entry]:
    """Return all of a session's entries, newest first."""
    with farm.store.read() as tx:
        session = own_session(tx, account_id, session_id)
        return tx.find(Entry, order="-number", session_id=session.id)


def _check_amount(gpu_ms: int, *, zero: bool) -> None:
    if gpu_ms > MAX_GPU_MS or gpu_ms < 0 or (gpu_ms == 0 and not zero):
        raise BadRequest(
            f"A budget of {gpu_ms / 1000:.3f} GPU-seconds is not possible.",
            Say("Give more than 0 and at most 1,000,000,000 GPU-seconds."),
        )
