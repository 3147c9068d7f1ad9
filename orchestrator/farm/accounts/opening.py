"""The first start of a home: one account, one session, one admin key; budgets are real at once."""

from orchestrator.farm.accounts import keys, sessions
from orchestrator.farm.books import plan_history
from orchestrator.farm.kernel import DEFAULT_SESSION, Farm
from orchestrator.model import Account, Key
from orchestrator.states import KeyKind

SIGN_IN_SECONDS = 24 * 3600


def open_home(farm: Farm) -> str | None:
    """Make what a new home opens with and return its admin key; None when it was opened before."""
    with farm.store.write() as tx:
        if tx.find(Account, limit=1):
            return None
        now = farm.clock()
        session_id = farm.new_id("ses", now)
        account = Account(
            id=farm.new_id("acc", now),
            name="home",
            plan="studio",
            default_session_id=session_id,
            created_at_ms=now,
        )
        tx.add(account)
        plan_history.note(farm, tx, account, now)
        budget = farm.terms.default_session_gpu_seconds * 1000
        sessions.open_session(farm, tx, account.id, DEFAULT_SESSION, budget, session_id=session_id)
        tx.set_fact("epoch", 1)
        _, token = keys.issue(
            farm, tx, kind=KeyKind.ADMIN, name="first admin", account_id=account.id
        )
        return token


def replace_key(farm: Farm, *, account_id: str, kind: KeyKind, name: str) -> str:
    """Revoke the live keys of this name and return a new one's token.

    For keys that a start of the farm makes for itself: its CLI's, its sign-in link. A link that
    was used stays: a browser is signed in by it.
    """
    with farm.store.write() as tx:
        for key in tx.find(Key, account_id=account_id, kind=kind, name=name, revoked_at_ms=None):
            if kind is not KeyKind.SIGNIN or key.used_at_ms is None:
                keys.end(farm, tx, key)
        ttl = SIGN_IN_SECONDS if kind is KeyKind.SIGNIN else None
        _, token = keys.issue(
            farm, tx, kind=kind, name=name, account_id=account_id, ttl_seconds=ttl
        )
        return token
