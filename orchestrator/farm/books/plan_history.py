"""Which plan an account has had from when, and at what price: the books of the past rest on it."""

from collections.abc import Iterator
from itertools import pairwise

from orchestrator.farm.kernel import Farm
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.model import Account, PlanPeriod


def note(farm: Farm, tx: Transaction, account: Account, now_ms: int) -> None:
    """Write down the plan of an account that is locked or new, if it or its price has changed."""
    newest = tx.find(PlanPeriod, account_id=account.id, order="-number", limit=1)
    account_plan = farm.plans.get(account.plan)
    plan, price = (
        (account_plan.name, account_plan.price_month_microusd) if account_plan else ("", None)
    )
    if newest and (newest[0].plan, newest[0].price_microusd) == (plan, price):
        return
    number = newest[0].number + 1 if newest else 1
    tx.add(
        PlanPeriod(
            id=f"{account.id}.{number}",
            account_id=account.id,
            number=number,
            plan=plan,
            price_microusd=price,
            from_ms=now_ms,
        )
    )


def plan_of(tx: Transaction, account_id: str) -> str:
    """Return the plan that an account was last written down with."""
    newest = tx.find(PlanPeriod, account_id=account_id, order="-number", limit=1)
    return newest[0].plan if newest else ""


def spells(tx: Transaction, until_ms: int) -> Iterator[tuple[PlanPeriod, int]]:
    """Yield every period of a plan with its end: where the next one begins, or `until_ms`."""
    for period, later in pairwise((*tx.find(PlanPeriod, order="account_id,number"), None)):
        assert period
        same = later is not None and later.account_id == period.account_id
        yield period, later.from_ms if later and same else until_ms
