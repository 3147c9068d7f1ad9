"""Everything Framefarm refuses or reports, as one family.

An error is a sentence about what happened, remedies, the best first, and typed data. It knows
nothing of HTTP or exit codes: `web/errors.py` and `orchestrator/cli` map `code` to theirs.
"""

from typing import Any, ClassVar

from orchestrator.remedies import AskForLess, FreeRoom, Listing, LookAt, Remedy, Say, UseKey


class FarmError(Exception):
    """Something Framefarm can explain."""

    code: ClassVar[str] = "farm_error"
    remedies: tuple[Remedy, ...] = (
        LookAt(Listing.LOGS, "Report it to the operator, with the request that caused it."),
    )

    def __init__(self, message: str = "", *remedies: Remedy, **data: Any) -> None:
        self.message = message or (type(self).__doc__ or self.code).strip().splitlines()[0]
        self.remedies = remedies or type(self).remedies
        self.data = data
        super().__init__(self.message)

    @property
    def advice(self) -> str:
        """Return the best remedy as a sentence."""
        return self.remedies[0].text


class BadRequest(FarmError):
    """The request cannot be understood."""

    code = "bad_request"
    remedies = (
        Say("Change what the message names and send it again; nothing was started or charged."),
    )


class UnknownHost(FarmError):
    """The farm is asked by a name that is not its own; nothing was done or charged."""

    code = "unknown_host"
    remedies = (
        Say(
            "Ask by an address that the farm knows; its operator names others in FARM_PUBLIC_URL "
            "(`https://farm.example.com, http://web:8080`)."
        ),
    )


class NotFound(FarmError):
    """There is no such thing here."""

    code = "not_found"
    remedies = (Say("Check the id."),)


class Expired(FarmError):
    """Its files were kept for a time, which is over."""

    code = "expired"
    remedies = (Say("Ask for the video again; its receipt and its ledger entries stay."),)


class Gone(FarmError):
    """There was such a thing here, and it has ended."""

    code = "gone"
    remedies = (Say("Ask for a new one."),)


class NotAllowed(FarmError):
    """This key may not do that."""

    code = "not_allowed"
    remedies = (LookAt(Listing.KEYS, "Use a key with the right to do it."),)


class PlanLimit(FarmError):
    """The account's plan does not allow that."""

    code = "plan_limit"
    remedies = (AskForLess(),)


class Unauthorized(FarmError):
    """There is no valid key with this request."""

    code = "unauthorized"
    remedies = (UseKey(),)


class PolicyRefused(FarmError):
    """The operator's policy refused this."""

    code = "policy_refused"
    remedies = (Say("Ask for something else; the operator of this farm sets its policy."),)


class PolicyUnavailable(FarmError):
    """The operator's policy could not be asked, and nothing is made without it."""

    code = "policy_unavailable"
    remedies = (Say("Try again shortly; nothing was started or charged."),)


class Conflict(FarmError):
    """The thing is not in a state for that."""

    code = "conflict"
    remedies = (Say("Look at its state, and try what fits it."),)


class IllegalStep(Conflict):
    """A job in this state cannot do that."""

    def __init__(self, *, state: str, event: str) -> None:
        super().__init__(f"A job that is {state} cannot {event}.", state=state, event=event)


class IdempotencyMismatch(FarmError):
    """This Idempotency-Key was used with another body."""

    code = "idempotency_mismatch"
    remedies = (Say("Use a new key for a new request, or send the first body again."),)


class BudgetExceeded(FarmError):
    """The session has too little left for this job."""

    code = "budget_exceeded"
    remedies = (AskForLess(),)


class StorageFull(FarmError):
    """The account's plan gives no more room for files and characters."""

    code = "storage_full"
    remedies = (LookAt(Listing.FILES, "Delete files that nobody needs."),)


class StaleLease(FarmError):
    """The lease is no longer this worker's."""

    code = "stale_lease"
    remedies = (
        Say("Drop the work; the unit was granted again or its job has ended. Nothing is charged."),
    )


class TooMany(FarmError):
    """One account asks for more of this at once than the farm gives to one."""

    code = "too_many_requests"
    remedies = (Say("Wait a little and send it again."),)


class DiskFull(FarmError):
    """There is no room left on the farm's disk."""

    code = "disk_full"
    remedies = (FreeRoom(),)


class Unavailable(FarmError):
    """A part the farm needs cannot be reached."""

    code = "unavailable"
    remedies = (
        LookAt(Listing.CHECKS, "Try again shortly; the farm's checks say which part it is."),
    )


class Contended(Unavailable):
    """Two requests met in the database and this one gave way; nothing of it was written."""
