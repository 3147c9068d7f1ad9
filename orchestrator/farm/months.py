"""An account's calendar months: what its plan lets all its sessions use together."""

from datetime import UTC, datetime

from orchestrator.errors import PlanLimit
from orchestrator.farm import Farm
from orchestrator.farm.ports import Transaction
from orchestrator.model import Account, Month
from orchestrator.tiers import Tier


def name_of(now_ms: int) -> str:
    """Return the calendar month of a moment, in UTC, such as `2026-11`."""
    return f"{datetime.fromtimestamp(now_ms / 1000, UTC):%Y-%m}"


def current(farm: Farm, tx: Transaction, account_id: str, now_ms: int) -> Month:
    """Return the account's month of now, locked; it begins with its first use."""
    month = tx.get(Month, _id(account_id, now_ms), lock=True)
    if month is None:
        month = _beginning(farm, tx, account_id, now_ms)
        tx.add(month)
    return month


def seen(farm: Farm, tx: Transaction, account_id: str, now_ms: int) -> Month:
    """Return the account's month of now as it is, or would begin; nothing is written."""
    month = tx.get(Month, _id(account_id, now_ms))
    return month or _beginning(farm, tx, account_id, now_ms)


def tier_of(farm: Farm, month: Month) -> Tier:
    """Return the plan that a month is under.

    Raises:
        PlanLimit: the account has none, so nothing may run.
    """
    tier = farm.tiers.get(month.tier)
    if tier is None:
        raise PlanLimit(
            "This account has no plan, so nothing may run.",
            next="Have the operator give it one: `farm account set-plan`.",
            limit="plan",
        )
    return tier


def of_plan(farm: Farm, plan: str) -> tuple[str, int | None]:
    """Return (tier, cap) of a plan by name; an unknown one is none, with nothing to use."""
    tier = farm.tiers.get(plan)
    return (tier.name, tier.month_gpu_ms) if tier else ("", 0)


def _beginning(farm: Farm, tx: Transaction, account_id: str, now_ms: int) -> Month:
    account = tx.get(Account, account_id)
    assert account, "keys and sessions name accounts that are there"
    tier, cap = of_plan(farm, account.plan)
    return Month(
        id=_id(account_id, now_ms),
        account_id=account_id,
        tier=tier,
        cap_gpu_ms=cap,
        limit_gpu_ms=cap,
        alerts=account.alerts,
    )


def _id(account_id: str, now_ms: int) -> str:
    return f"{account_id}.{name_of(now_ms)}"
