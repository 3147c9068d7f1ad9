"""Accounts: who pays, and on which plan."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.errors import BadRequest, NotFound
from orchestrator.farm.accounts import sessions
from orchestrator.farm.accounts.references import Storage, storage_of
from orchestrator.farm.books import alerts, months, plan_history, session_limits
from orchestrator.farm.jobs.pausing import resume_for_budget
from orchestrator.farm.kernel import DEFAULT_SESSION, Farm, Idempotency, Page, audit_log
from orchestrator.farm.kernel.idempotency import answered, remember
from orchestrator.farm.kernel.paging import page, part
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.farm.kernel.where import JobMatch
from orchestrator.model import Account, Alert, Job, Month, Session
from orchestrator.remedies import Listing, LookAt, Say
from orchestrator.states import JobState, PauseReason, SessionState

NO_PLAN = "none"
"""The word that takes an account's plan away."""


@dataclass(frozen=True, slots=True)
class Standing:
    """An account, its month of now, and its storage."""

    account: Account
    month: Month
    storage: Storage


def get(farm: Farm, account_id: str) -> Account:
    """Return an account."""
    with farm.store.read() as tx:
        return _known(tx, account_id)


def first(farm: Farm) -> Account:
    """Return the account a new home opens with: whom an admin key acts for by default."""
    with farm.store.read() as tx:
        accounts = tx.find(Account, limit=1)
    if not accounts:
        raise NotFound(
            "This farm has no account yet.",
            Say("Start the farm once: that makes its first account."),
        )
    return accounts[0]


def listing(farm: Farm, *, limit: int = 50, after: str | None = None) -> Page[Standing]:
    """Return accounts with their months, newest first."""
    now = farm.clock()
    with farm.store.read() as tx:
        found = page(tx.find(Account, **part(limit, after)), limit)
        standings = tuple(
            _standing(farm, tx, a, months.seen(farm, tx, a.id, now)) for a in found.items
        )
    return Page(items=standings, next_cursor=found.next_cursor)


def look(farm: Farm, account_id: str) -> Standing:
    """Return an account with its month of now."""
    with farm.store.read() as tx:
        account = _known(tx, account_id)
        return _standing(farm, tx, account, months.seen(farm, tx, account.id, farm.clock()))


def create(
    farm: Farm,
    *,
    name: str,
    plan: str,
    by: str | None = None,
    idempotency: Idempotency | None = None,
) -> Standing:
    """Open an account on a plan, with a session `default` of what the plan gives.

    `by`: the account that asks, whose `idempotency` it is.

    Raises:
        BadRequest: there is no such plan, or no name.
    """
    if not name.strip():
        raise BadRequest("An account needs a name.")
    account_plan = farm.plans.named(plan)
    now = farm.clock()
    with farm.store.write() as tx:
        if by is not None:
            tx.get(Account, by, lock=True)  # the same request beside this one waits here
            if earlier := answered(tx, by, idempotency):
                known = _known(tx, earlier)
                return _standing(farm, tx, known, months.seen(farm, tx, known.id, now))
        session_id = farm.new_id("ses", now)
        account = Account(
            id=farm.new_id("acc", now),
            name=name.strip(),
            plan=plan,
            default_session_id=session_id,
            created_at_ms=now,
        )
        tx.add(account)
        plan_history.note(farm, tx, account, now)
        month = months.current(farm, tx, account.id, now)
        budget = account_plan.session_gpu_ms
        sessions.open_session(farm, tx, account.id, DEFAULT_SESSION, budget, session_id=session_id)
        if by is not None:
            remember(tx, by, idempotency, account.id, now)
        audit_log.note(farm, tx, "account.create", account.id, account.id, name=name, plan=plan)
        return _standing(farm, tx, account, month)


def set_plan(farm: Farm, account_id: str, plan: str) -> Standing:
    """Give an account another plan, or `none`. It counts from the next lease on.

    A month or a session that used more than the new plan gives keeps that as its limit, which
    sinks as holds release: nothing that was promised is taken back.

    Raises:
        BadRequest: there is no such plan.
    """
    now = farm.clock()
    chosen = "" if plan == NO_PLAN else farm.plans.named(plan).name
    with farm.store.write() as tx:
        account = _known(tx, account_id, lock=True)
        account = tx.save(account, replace(account, plan=chosen))
        _bring_under(farm, tx, account, now)
        audit_log.note(farm, tx, "account.set_plan", account_id, account_id, plan=chosen or NO_PLAN)
    go_on(farm, account_id)
    return look(farm, account_id)


def set_alerts(farm: Farm, account_id: str, wanted: Sequence[Alert] | None) -> Standing:
    """Give an account's months alerts of their own; None: its plan's again.

    Raises:
        BadRequest: the list makes no sense.
    """
    now, kept = farm.clock(), alerts.checked(wanted)
    with farm.store.write() as tx:
        account = _known(tx, account_id, lock=True)
        current = months.current(farm, tx, account_id, now)
        if account.alerts == kept:
            return _standing(farm, tx, account, current)
        tx.save(account, replace(account, alerts=kept))
        for month in tx.find(Month, account_id=account_id, lock=True):
            if month.id == current.id or month.held_gpu_ms:
                tx.save(month, alerts.taken_back(farm, replace(month, alerts=kept)))
        audit_log.note(
            farm, tx, "account.alerts", account_id, account_id, alerts=alerts.in_words(kept)
        )
    go_on(farm, account_id)
    return look(farm, account_id)


def renew(farm: Farm, after: str, most: int) -> str | None:
    """Bring some accounts under their plans as the file has them now; return the last one's id.

    None: there are no more, and jobs that have budget again were let go on.
    """
    with farm.store.read() as tx:
        found = tx.find(Account, after=after, limit=most)
    for account in found:
        with farm.store.write() as tx:
            _bring_under(farm, tx, _known(tx, account.id, lock=True), farm.clock())
    if len(found) == most:
        return found[-1].id
    go_on(farm)
    return None


def go_on(farm: Farm, account_id: str | None = None, *, allowance_id: str | None = None) -> None:
    """Let jobs go on that were paused for budget, each session in a transaction of its own.

    `allowance_id`: where some wait whose key has that allowance.
    """
    waiting: JobMatch = {
        "state": JobState.PAUSED,
        "pause_reason": PauseReason.BUDGET,
        "deleted_at_ms": None,
    }
    if account_id is not None:
        waiting["account_id"] = account_id
    if allowance_id is not None:
        waiting["allowance_id"] = allowance_id
    with farm.store.read() as tx:
        with_some = {job.session_id for job in tx.find(Job, **waiting)}
    for session_id in sorted(with_some):
        with farm.store.write() as tx:
            tx.get(Session, session_id, lock=True)
            resume_for_budget(farm, tx, session_id, farm.clock())


def _bring_under(farm: Farm, tx: Transaction, account: Account, now_ms: int) -> None:
    """Hold the account's open sessions and its months to its plan, and write down which it is.

    A month that is over and holds nothing stays as it was.
    """
    plan_history.note(farm, tx, account, now_ms)
    account_plan = farm.plans.get(account.plan)
    under = months.under(months.seen(farm, tx, account.id, now_ms), account_plan)
    for session in tx.find(Session, account_id=account.id, state=SessionState.OPEN, lock=True):
        session_limits.within(farm, tx, session, under, now_ms)
    current = months.current(farm, tx, account.id, now_ms)
    for month in tx.find(Month, account_id=account.id, lock=True):
        if month.id == current.id or month.held_gpu_ms:
            tx.save(month, months.under(month, account_plan))


def _standing(farm: Farm, tx: Transaction, account: Account, month: Month) -> Standing:
    return Standing(account, month, storage_of(farm, tx, account))


def _known(tx: Transaction, account_id: str, *, lock: bool = False) -> Account:
    account = tx.get(Account, account_id, lock=lock)
    if account is None:
        raise NotFound(
            f"There is no account {account_id[:80]!r}.",
            LookAt(Listing.ACCOUNTS, "See the accounts there are."),
        )
    return account
