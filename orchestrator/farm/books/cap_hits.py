"""Times that a budget or a plan said no: refusals and pauses, counted by day."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, Final, ParamSpec, TypeVar

from orchestrator.errors import BudgetExceeded, PlanLimit
from orchestrator.farm.books import plan_history
from orchestrator.farm.kernel import Farm
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.model import Json

P = ParamSpec("P")
T = TypeVar("T")

DAY_MS: Final = 86_400_000
REFUSED: Final = "refused"
"""A submission that did not fit the budget or the plan."""
PAUSED: Final = "paused"
"""A job that had to stop for want of budget."""


def hit(tx: Transaction, account_id: str, model: str, reason: str, now_ms: int) -> None:
    """Count one, against the plan that the account has."""
    plan = plan_history.plan_of(tx, account_id)
    tx.books.count_cap_hit(account_id, plan, model, now_ms // DAY_MS * DAY_MS, reason)


def counted(verb: Callable[Concatenate[Farm, P], T]) -> Callable[Concatenate[Farm, P], T]:
    """Count the refusals of a verb that takes an account and a brief.

    In a transaction of its own: the one that was refused leaves no trace.
    """

    @wraps(verb)
    def counting(farm: Farm, /, *args: P.args, **asked: P.kwargs) -> T:
        intent: Json = asked
        try:
            return verb(farm, *args, **asked)
        except (BudgetExceeded, PlanLimit):
            model = farm.catalog.card(intent["brief"].model).id
            with farm.store.write() as tx:
                hit(tx, intent["account_id"], model, REFUSED, farm.clock())
            raise

    return counting
