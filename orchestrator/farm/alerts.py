"""Alerts: a budget that crosses a threshold says so, and may stop what would use it up."""

from dataclasses import replace

from orchestrator import monthly
from orchestrator.errors import BudgetExceeded
from orchestrator.farm import Farm, hooks
from orchestrator.farm.case import Case
from orchestrator.model import Month, Session
from orchestrator.tiers import OnAlert, Tier

EVENT = "budget.threshold"


def look(case: Case) -> None:
    """Give the alerts that the last settlement has reached: event, webhook and ledger line."""
    tier = case.farm.tiers.get(case.month.tier)
    if tier is None:
        return
    session, month = case.session, case.month
    percent = _reached(tier, session)
    if percent > session.alerted_percent:
        case.session = replace(session, alerted_percent=percent)
        _give(case, session, percent, scope="session", name=session.name)
    percent = _reached(tier, month)
    if percent > month.alerted_percent:
        case.turn(replace(month, alerted_percent=percent))
        _give(case, month, percent, scope="month", name=month.id)


def taken_back(tier: Tier | None, session: Session) -> Session:
    """Return a session whose limit has changed, with the alerts that still hold."""
    percent = _reached(tier, session) if tier else 0
    return replace(session, alerted_percent=min(session.alerted_percent, percent))


def check(farm: Farm, session: Session, month: Month, *, when: tuple[OnAlert, ...]) -> None:
    """Refuse what the last alert of a budget is to stop.

    Raises:
        BudgetExceeded: its plan does one of `when` at that alert, and it was given.
    """
    tier = farm.tiers.get(month.tier)
    if tier is None or tier.on_alert not in when or not tier.alerts:
        return
    last = tier.alerts[-1]
    for budget, name in ((session, f"session {session.name!r}"), (month, "the account's month")):
        if budget.alerted_percent >= last:
            raise BudgetExceeded(
                f"{last} % of {name} is spent, where the plan {tier.name} stops "
                + ("new jobs." if tier.on_alert == "pause_new" else "all jobs."),
                limit="month" if isinstance(budget, Month) else "session",
                alert_percent=last,
                # As much more as brings what is spent under the alert again.
                needed_gpu_ms=100 * budget.spent_gpu_ms // last + 1 - (budget.limit_gpu_ms or 0),
                available_gpu_ms=0,
            )


def _reached(tier: Tier, budget: Session | Month) -> int:
    return monthly.crossed(
        tier.alerts, spent_gpu_ms=budget.spent_gpu_ms, limit_gpu_ms=budget.limit_gpu_ms
    )


def _give(case: Case, budget: Session | Month, percent: int, *, scope: str, name: str) -> None:
    case.move(
        monthly.alert(
            case.session,
            percent,
            of=f"{scope} {name}",
            **case.stamp(),
        )
    )
    facts = {
        "scope": scope,
        "id": budget.id,
        "percent": percent,
        "spent_gpu_ms": budget.spent_gpu_ms,
        "held_gpu_ms": budget.held_gpu_ms,
        "limit_gpu_ms": budget.limit_gpu_ms,
    }
    case.tell("budget", **facts)
    hooks.tell(case.farm, case.tx, case.job.account_id, EVENT, facts, case.now_ms)
