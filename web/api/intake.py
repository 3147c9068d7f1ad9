"""The one way into the farm: whatever the dialect, a job is submitted here."""

from orchestrator.farm import Idempotency, Repeat, jobs
from orchestrator.model import Brief, Job
from web.auth import own_account
from web.context import artifacts, farm
from web.hub import off_hub


def submit(brief: Brief, *, session_id: str | None, promise: Idempotency | Repeat | None) -> Job:
    """Submit a job for the account of this request's key, and return it.

    Raises:
        BudgetExceeded: it does not fit.
        Unavailable: the disk is nearly full.
    """
    artifacts().check_room()
    submission = off_hub(
        jobs.submit,
        farm(),
        account_id=own_account(),
        session_id=session_id,
        brief=brief,
        idempotency=promise,
    )
    return submission.job
