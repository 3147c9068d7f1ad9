"""Everything Framefarm refuses or reports, as one family.

An error is a sentence about what happened, a `next` sentence about what to do, and typed
data. It knows nothing of HTTP or exit codes: `web/errors.py` and `orchestrator/cli` map
`code` to theirs.
"""

from typing import Any, ClassVar


class FarmError(Exception):
    """Something Framefarm can explain."""

    code: ClassVar[str] = "farm_error"
    next: str = "See `farm logs` and report it with the request that caused it."

    def __init__(self, message: str = "", *, next: str = "", **data: Any) -> None:
        self.message = message or (type(self).__doc__ or self.code).strip().splitlines()[0]
        self.next = next or type(self).next
        self.data = data
        super().__init__(self.message)


class BadRequest(FarmError):
    """The request cannot be understood."""

    code = "bad_request"
    next = "Change what the message names and send it again; nothing was started or charged."


class NotFound(FarmError):
    """There is no such thing here."""

    code = "not_found"
    next = "Check the id; list what there is with `farm jobs ls` or `farm session ls`."


class NotAllowed(FarmError):
    """This key may not do that."""

    code = "not_allowed"
    next = "Use a key with the right to do it; `farm keys ls` shows yours."


class PlanLimit(FarmError):
    """The account's plan does not allow that."""

    code = "plan_limit"
    next = (
        "Ask for less, or have the operator change the plan (`farm account set-plan`); nothing "
        "was started or charged."
    )


class Unauthorized(FarmError):
    """There is no valid key with this request."""

    code = "unauthorized"
    next = "Send `Authorization: Bearer farm_…`; `farm keys create` makes a key."


class PolicyRefused(FarmError):
    """The operator's policy refused this."""

    code = "policy_refused"
    next = "Ask for something else; the operator of this farm sets its policy."


class PolicyUnavailable(FarmError):
    """The operator's policy could not be asked, and nothing is made without it."""

    code = "policy_unavailable"
    next = "Try again shortly; nothing was started or charged."


class Conflict(FarmError):
    """The thing is not in a state for that."""

    code = "conflict"
    next = "Look at its state with `farm jobs show` and try what fits it."


class IllegalStep(Conflict):
    """A job in this state cannot do that."""

    def __init__(self, *, state: str, event: str) -> None:
        super().__init__(f"A job that is {state} cannot {event}.", state=state, event=event)


class IdempotencyMismatch(FarmError):
    """This Idempotency-Key was used with another body."""

    code = "idempotency_mismatch"
    next = "Use a new key for a new request, or send the first body again."


class BudgetExceeded(FarmError):
    """The session has too little left for this job."""

    code = "budget_exceeded"
    next = "Top the session up (`farm session topup`), or take one of the alternatives."


class StaleLease(FarmError):
    """The lease is no longer this worker's."""

    code = "stale_lease"
    next = "Drop the work; the unit was granted again or its job has ended. Nothing is charged."


class TooMany(FarmError):
    """One account asks for more of this at once than the farm gives to one."""

    code = "too_many_requests"
    next = "Wait a little and send it again."


class DiskFull(FarmError):
    """There is no room left on the farm's disk."""

    code = "disk_full"
    next = (
        "Nothing is charged. Free some room (`farm jobs rm` deletes ended jobs; `farm doctor` says "
        "how much there is) or give FARM_HOME a larger disk, then send it again."
    )


class Unavailable(FarmError):
    """A part the farm needs cannot be reached."""

    code = "unavailable"
    next = "Try again shortly; `farm status` and `farm doctor` say which part it is."


class Contended(Unavailable):
    """Two requests met in the database and this one gave way; nothing of it was written."""
