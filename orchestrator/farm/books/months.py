"""An account's calendar months: what its plan lets all its sessions use together.

A month's row has the plan and its cap, since the queries for grants ask it. Each look at a row
holds it against the account and the file of plans, and takes over what either says now.
"""

from dataclasses import replace
from datetime import UTC, datetime

from orchestrator.errors import PlanLimit
from orchestrator.farm.kernel import Farm
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.model import Account, Month
from orchestrator.money import monthly
from orchestrator.money.plans import Plan


def name_of(now_ms: int) -> str:
    """Return the calendar month of a moment, in UTC, such as `2026-11`."""
    return f"{datetime.fromtimestamp(now_ms / 1000, UTC):%Y-%m}"


def current(farm: Farm, tx: Transaction, account_id: str, now_ms: int) -> Month:
    """Return the account's month of now, locked; it begins with its first use."""
    month = tx.get(Month, _id(account_id, now_ms), lock=True)
    if month is None:
        month = _beginning(farm, tx, account_id, now_ms)
        tx.add(month)
    return tx.save(month, renewed(farm, tx, month))


def seen(farm: Farm, tx: Transaction, account_id: str, now_ms: int) -> Month:
    """Return the account's month of now as it is, or would begin; nothing is written."""
    month = tx.get(Month, _id(account_id, now_ms))
    return renewed(farm, tx, month) if month else _beginning(farm, tx, account_id, now_ms)


def renewed(farm: Farm, tx: Transaction, month: Month) -> Month:
    """Return a month as the file of plans has its plan now: another cap, or no such plan."""
    plan = farm.plans.get(month.plan)
    if plan and plan.month_gpu_ms == month.cap_gpu_ms:
        return month  # the daily case asks for nothing more
    return under(month, farm.plans.get(_account(tx, month.account_id).plan))


def under(month: Month, plan: Plan | None) -> Month:
    """Return a month under a plan, None for none, with the alerts that still hold.

    What it holds and spent already stays its limit where the cap is less.
    """
    if plan is None:
        return replace(monthly.capped(month, 0), plan="")
    capped = monthly.capped(month, plan.month_gpu_ms)
    own = plan.alerts if month.alerts is None else month.alerts
    reached = max((alert.percent for alert in monthly.crossed(own, capped)), default=0)
    alerted = min(month.alerted_percent, reached)
    return replace(capped, plan=plan.name, alerted_percent=alerted)


def plan_of(farm: Farm, tx: Transaction, month: Month) -> Plan:
    """Return the plan that a month is under.

    Raises:
        PlanLimit: the account has none, so nothing may run.
    """
    plan = farm.plans.get(month.plan)
    if plan is None:
        raise PlanLimit(
            no_plan(_account(tx, month.account_id)),
            next="Have the operator give it one: `farm account set-plan`.",
            limit="plan",
        )
    return plan


def no_plan(account: Account) -> str:
    """Say that an account has no plan, or one that the farm offers no more."""
    if not account.plan:
        return "This account has no plan, so nothing may run."
    return f"This account's plan {account.plan!r} is offered no more, so nothing may run."


def _beginning(farm: Farm, tx: Transaction, account_id: str, now_ms: int) -> Month:
    account, own_id = _account(tx, account_id), _id(account_id, now_ms)
    begun = Month(id=own_id, account_id=account_id, plan="", alerts=account.alerts)
    return under(begun, farm.plans.get(account.plan))


def _account(tx: Transaction, account_id: str) -> Account:
    account = tx.get(Account, account_id)
    assert account, "keys and sessions name accounts that are there"
    return account


def _id(account_id: str, now_ms: int) -> str:
    return f"{account_id}.{name_of(now_ms)}"
