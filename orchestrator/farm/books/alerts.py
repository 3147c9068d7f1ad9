"""Alerts: a budget that crosses a threshold says so, and may stop what would use it up.

A threshold is told once while it holds. What it stops is not remembered but seen: as soon as
spending is under it again, by a top-up, another limit, another list or a refund, it stops nothing.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from orchestrator.errors import BadRequest, BudgetExceeded
from orchestrator.farm import webhook_queue
from orchestrator.farm.books import pacing
from orchestrator.farm.books.job_books import JobBooks
from orchestrator.farm.kernel import Farm
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.model import Alert, Job, Month, Session, Unit
from orchestrator.money import monthly
from orchestrator.remedies import Say
from orchestrator.states import AlertAction, JobState, UnitKind

EVENT: Final = "budget.threshold"
MOST: Final = 20
"""Alerts of one list."""
WATCHED: Final = 100
"""Open jobs of a session, the newest, whose watchers hear of an alert of its budget."""
NEW_JOBS: Final = (AlertAction.PAUSE_NEW, AlertAction.PAUSE_ALL)
"""Actions that stop a submission."""
ALL_JOBS: Final = (AlertAction.PAUSE_ALL,)
"""Actions that stop painting."""
_OPEN: Final = tuple(state for state in JobState if not state.is_terminal)


def of(farm: Farm, budget: Session | Month, month: Month) -> tuple[Alert, ...]:
    """Return the alerts of a budget, ascending: its own, or those of the plan of its month."""
    if budget.alerts is not None:
        return budget.alerts
    plan = farm.plans.get(month.plan)
    return plan.alerts if plan else ()


def checked(alerts: Sequence[Alert] | None) -> tuple[Alert, ...] | None:
    """Return a list of somebody's own as it is kept.

    Raises:
        BadRequest: more than 20, not ascending, or a percent that is none.
    """
    if alerts is None:
        return None
    percents = [alert.percent for alert in alerts]
    wrong = next((percent for percent in percents if not 1 <= percent <= 100), None)
    if wrong is not None:
        fault = f"An alert at {wrong} % is not possible: 1 to 100 % of a budget."
    elif percents != sorted(set(percents)):
        fault = "Alerts ascend, each percentage once."
    elif len(percents) > MOST:
        fault = f"A budget has at most {MOST} alerts; these are {len(percents)}."
    else:
        return tuple(alerts)
    actions = ", ".join(AlertAction)
    raise BadRequest(fault, Say(f"Write them as 50=notify 90=pause_new; actions: {actions}."))


def in_words(kept: Sequence[Alert] | None) -> dict[str, str] | None:
    """Return a list of alerts as the audit log has it: action by percent."""
    return None if kept is None else {str(each.percent): each.action.value for each in kept}


# --- telling ------------------------------------------------------------------------------


def look(books: JobBooks) -> None:
    """Bring the alerts of a job's session and month up to what is spent of them now."""
    month = books.month
    session = looked(books.farm, books.tx, books.session, month, books.now_ms, job_id=books.job.id)
    for alert in _new(books.farm, month, month):
        session = _give(books.farm, books.tx, session, month, alert, books.now_ms, books.job.id)
    books.session = session
    books.turn(replace(month, alerted_percent=_reached(books.farm, month, month)))


def looked(
    farm: Farm,
    tx: Transaction,
    session: Session,
    month: Month,
    now_ms: int,
    *,
    job_id: str | None = None,
) -> Session:
    """Return a session whose alerts are given, each that spending has crossed, or taken back.

    `month`: its account's, for the plan. `job_id`: whose watchers hear of it in any case.
    """
    for alert in _new(farm, session, month):
        session = _give(farm, tx, session, session, alert, now_ms, job_id)
    return replace(session, alerted_percent=_reached(farm, session, month))


def taken_back(farm: Farm, month: Month) -> Month:
    """Return a month whose plan, cap or list has changed, without the alerts that hold no more.

    New ones need a session's ledger: its next settlement gives them.
    """
    reached = _reached(farm, month, month)
    return replace(month, alerted_percent=min(month.alerted_percent, reached))


def _reached(farm: Farm, budget: Session | Month, month: Month) -> int:
    crossed = monthly.crossed(of(farm, budget, month), budget)
    return max((alert.percent for alert in crossed), default=0)


def _new(farm: Farm, budget: Session | Month, month: Month) -> list[Alert]:
    crossed = monthly.crossed(of(farm, budget, month), budget)
    return [alert for alert in crossed if alert.percent > budget.alerted_percent]


def _give(
    farm: Farm,
    tx: Transaction,
    session: Session,
    budget: Session | Month,
    alert: Alert,
    now_ms: int,
    job_id: str | None,
) -> Session:
    """Write an alert into the session's ledger, and tell watchers and webhooks."""
    scope = "month" if isinstance(budget, Month) else "session"
    name = budget.id if isinstance(budget, Month) else budget.name
    entry_id = farm.new_id("ent", now_ms)
    movement = monthly.alert(session, alert, of=f"{scope} {name}", entry_id=entry_id, now_ms=now_ms)
    tx.add(movement.entry)
    facts = {
        "scope": scope,
        "id": budget.id,
        "percent": alert.percent,
        "action": alert.action.value,
        "spent_gpu_ms": budget.spent_gpu_ms,
        "held_gpu_ms": budget.held_gpu_ms,
        "limit_gpu_ms": budget.limit_gpu_ms,
    }
    beside = tx.find(Job, session_id=session.id, state=_OPEN, order="-id", limit=WATCHED)
    for watched in dict.fromkeys((job_id, *(job.id for job in beside))):
        if watched is not None:
            tx.deliveries.tell(watched, [("budget", facts)], now_ms)
    webhook_queue.tell(farm, tx, session.account_id, EVENT, facts, now_ms)
    return movement.session


# --- stopping -----------------------------------------------------------------------------


def check(
    farm: Farm,
    session: Session,
    month: Month,
    *,
    when: tuple[AlertAction, ...],
    rest_gpu_ms: int = 0,
) -> None:
    """Refuse what a crossed alert of a budget stops: the lowest one, to be got under.

    `rest_gpu_ms`: what is still to be spent under it; the advice has room for that too.

    Raises:
        BudgetExceeded: an alert that does one of `when` is crossed.
    """
    for budget, name in ((session, f"session {session.name!r}"), (month, "the account's month")):
        crossed = monthly.crossed(of(farm, budget, month), budget)
        brake = next((alert for alert in crossed if alert.action in when), None)
        if brake is None:
            continue
        whose = (
            "its own alerts stop" if budget.alerts is not None else f"the plan {month.plan} stops"
        )
        what = "new jobs" if brake.action is AlertAction.PAUSE_NEW else "all jobs"
        spent = budget.spent_gpu_ms + rest_gpu_ms
        raise BudgetExceeded(
            f"{brake.percent} % of {name} is spent, where {whose} {what}.",
            limit="month" if isinstance(budget, Month) else "session",
            alert_percent=brake.percent,
            # As much more as brings what is spent under the alert again.
            needed_gpu_ms=100 * spent // brake.percent + 1 - (budget.limit_gpu_ms or 0),
            available_gpu_ms=0,
        )


def check_rest(
    farm: Farm, tx: Transaction, session: Session, month: Month, job: Job, units: list[Unit]
) -> None:
    """Refuse to go on with a job that an alert stops; what is finished is encoded in any case.

    Raises:
        BudgetExceeded: such an alert is crossed, and there are frames to paint.
    """
    if any(unit.kind is not UnitKind.ENCODE for unit in units):
        rest_gpu_ms = pacing.rest_gpu_ms(farm, tx, job, units)
        check(farm, session, month, when=ALL_JOBS, rest_gpu_ms=rest_gpu_ms)


def gain_gpu_ms(farm: Farm, budget: Session | Month, month: Month, spends_gpu_ms: int) -> int:
    """Return by how much a budget has to grow lest so much more spending stops all jobs.

    0: no alert would; a budget without a limit has none.
    """
    brake = next((each for each in of(farm, budget, month) if each.action in ALL_JOBS), None)
    if brake is None or not budget.limit_gpu_ms:
        return 0
    spent = budget.spent_gpu_ms + spends_gpu_ms
    return max(0, 100 * spent // brake.percent + 1 - budget.limit_gpu_ms)


def is_braked(books: JobBooks) -> bool:
    """Tell whether an alert stops painting for the job's budgets."""
    try:
        check(books.farm, books.session, books.month, when=ALL_JOBS)
    except BudgetExceeded:
        return True
    return False
