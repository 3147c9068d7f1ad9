"""The one way into the farm: whatever the dialect, a job is submitted here."""

from orchestrator.farm import Promise, jobs
from orchestrator.farm.jobs import Submission
from orchestrator.model import Brief
from web.api.bodies import JobBody, webhook_url
from web.auth import own_account
from web.context import artifacts, farm
from web.hub import off_hub
from web.policy import rule_on_prompt


def submit(brief: Brief, body: JobBody, promise: Promise | None) -> Submission:
    """Submit a job for the account of this request's key, under the terms of its body.

    Raises:
        PolicyRefused: the operator's policy does not want it.
        BudgetExceeded: it does not fit.
        Unavailable: the disk is nearly full.
    """
    artifacts().check_room()
    return off_hub(
        jobs.submit,
        farm(),
        account_id=own_account(),
        session_id=body.session_id,
        brief=brief,
        idempotency=promise,
        webhook_url=webhook_url(body.webhook_url),
        fit=body.fit,
        ruling=rule_on_prompt(brief, own_account()),
    )
