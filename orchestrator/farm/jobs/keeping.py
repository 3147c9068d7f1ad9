"""The time for which a job's files are kept: by its plan, or for less by its own request."""

from dataclasses import dataclass
from typing import Final

from orchestrator.errors import BadRequest, Expired, PlanLimit
from orchestrator.model import Handling, Job
from orchestrator.money.plans import DAY_MS, Plan
from orchestrator.remedies import ChangePlan, Rerun, Say
from orchestrator.states import JobState

LEAST_MS: Final = 3_600_000
"""Files are kept for an hour after their job's end at least, so that somebody can fetch them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """Time or moment until which a job's files are to be kept; both None: for ever."""

    keep_ms: int | None
    keep_until_ms: int | None


def agreed(plan: Plan | None, handling: Handling, account_id: str, now_ms: int) -> Keeping:
    """Return how long the files of a new job are to be kept.

    Raises:
        BadRequest: it names two times, too short a one, or one that is over.
        PlanLimit: it is longer than the plan keeps files.
    """
    most = plan.keep_ms if plan else None
    for_ms, until_ms = handling.expires_in_ms, handling.expires_at_ms
    if for_ms is not None and until_ms is not None:
        raise _refused("expires_at", "the request names both expires_in and expires_at", "one")
    if for_ms is not None and for_ms < LEAST_MS:
        raise _refused("expires_in", "files are kept for an hour at least", "3600 or more")
    if until_ms is not None and until_ms < now_ms + LEAST_MS:
        raise _refused("expires_at", "files are kept for an hour at least", "a later moment")
    asked = for_ms if until_ms is None else until_ms - now_ms
    if plan and most is not None and asked is not None and asked > most:
        raise PlanLimit(
            f"The plan {plan.name} keeps files for {_days(most)}; this asks for {_days(asked)}.",
            Say("Ask for less time, or leave it out; and fetch the video before it ends."),
            ChangePlan(account_id),
            limit="keep_days",
            allowed=most / DAY_MS,
            asked=asked / DAY_MS,
        )
    return Keeping(keep_ms=most if for_ms is None else for_ms, keep_until_ms=until_ms)


def still_ahead(job: Job, now_ms: int) -> bool:
    """Tell whether another job may be kept until the moment that this one's request names."""
    return job.keep_until_ms is not None and job.keep_until_ms >= now_ms + LEAST_MS


def expires_at_ms(job: Job, ended_ms: int) -> int | None:
    """Return when the files of a job are to go that ends now; None: never."""
    ends = [] if job.keep_ms is None else [ended_ms + job.keep_ms]
    if job.keep_until_ms is not None:
        ends.append(max(job.keep_until_ms, ended_ms + LEAST_MS))
    return min(ends, default=None)


def check_kept(job: Job) -> None:
    """Refuse to give out files of a job that were removed when their time was over.

    Raises:
        Expired: they were.
    """
    if job.expired_at_ms is not None:
        what = "Its video and frames were" if job.state is JobState.SUCCEEDED else "Its frames were"
        raise Expired(
            f"{what} kept for a time, which is over; the job, its receipt and its ledger entries "
            "stay.",
            Rerun(job.id),
        )


def _refused(field: str, fault: str, wanted: str) -> BadRequest:
    return BadRequest(
        f"{field}: {fault}.",
        Say(f"Name {wanted}; nothing was started or charged."),
        errors=[{"field": field, "fault": fault}],
    )


def _days(ms: int) -> str:
    return f"{ms / DAY_MS:.4g} days"
