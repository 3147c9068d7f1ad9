"""Accounts: who pays."""

from orchestrator.errors import NotFound
from orchestrator.farm import Farm
from orchestrator.model import Account


def get(farm: Farm, account_id: str) -> Account:
    """Return an account."""
    with farm.store.read() as tx:
        account = tx.get(Account, account_id)
    if account is None:
        raise NotFound(f"There is no account {account_id}.")
    return account


def first(farm: Farm) -> Account:
    """Return the account a new home opens with: whom an admin key acts for by default."""
    with farm.store.read() as tx:
        accounts = tx.find(Account, limit=1)
    if not accounts:
        raise NotFound("This farm has no account yet.", next="Start it once with `farm up`.")
    return accounts[0]
