"""The one way into the farm: whatever the dialect, a job is submitted here."""

from orchestrator.farm import Idempotency, Repeat, jobs
from orchestrator.farm.jobs import Submission
from orchestrator.model import Brief
from web.auth import own_account
from web.context import artifacts, farm
from web.hub import off_hub


def submit(
    brief: Brief,
    *,
    session_id: str | None,
    promise: Idempotency | Repeat | None,
    hook_url: str | None = None,
    fit: bool = False,
) -> Submission:
    """Submit a job for the account of this request's key.

    `fit`: where it does not fit the budget, the best variant that does.

    `fit`: where it does not fit the budget, the best variant that does.

    Raises:
        BudgetExceeded: it does not fit.
        Unavailable: the disk is nearly full.
    """
    artifacts().check_room()
    return off_hub(
        jobs.submit,
        farm(),
        account_id=own_account(),
        session_id=session_id,
        brief=brief,
        idempotency=promise,
        webhook_url=hook_url,
        fit=fit,
    )
