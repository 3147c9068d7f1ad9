"""The lives of jobs, units, leases and workers, written as data.

A state is a word in SQL, in JSON and in the docs. The tables below are the only place
that says which step follows which; `orchestrator.store.tables` derives its CHECKs from
the enums and docs/architecture.md draws the job's life from `JOB`.
"""

from enum import StrEnum
from typing import Final

from orchestrator.errors import IllegalStep


class JobState(StrEnum):
    """State of a job, as its owner sees it."""

    QUEUED = "queued"
    """Accepted and held for; the next unit waits for a device."""
    PARSING = "parsing"
    """A worker parses the prompt into shots."""
    RENDERING = "rendering"
    """Frame batches are on devices, or between two of them."""
    ENCODING = "encoding"
    """All frames are there; FFmpeg makes the video."""
    SUCCEEDED = "succeeded"
    """The video is there and the receipt is final."""
    PAUSED = "paused"
    """Nothing runs; finished frames are kept (see `PauseReason`)."""
    CANCELLED = "cancelled"
    """Ended by its owner; what was measured until then is charged."""
    FAILED = "failed"
    """Ended by an error that says what to do next."""

    @property
    def is_terminal(self) -> bool:
        """No event leads out of this state."""
        return self in TERMINAL


class PauseReason(StrEnum):
    """Reason for which a paused job does not go on."""

    BUDGET = "budget"
    """The session has nothing left for the next unit; a top-up resumes it."""
    USER = "user"
    """Its owner paused it."""


class OnExhausted(StrEnum):
    """Choice for when a job's budget runs out before it is done."""

    PAUSE = "pause"
    """Wait for a top-up, which lets it go on where it stopped."""
    FINISH = "finish"
    """Make a video of the frames that are finished; without one, pause."""
    CANCEL = "cancel"
    """End without a video."""


class Intent(StrEnum):
    """Intent of the owner of a job whose leases are still open."""

    PAUSE = "pause"
    """Stop granting; PAUSED when the last open lease resolves."""
    CANCEL = "cancel"
    """Stop granting; CANCELLED when the last open lease resolves."""


class JobEvent(StrEnum):
    """Events that move a job."""

    PARSE = "parse"
    """A lease on its parse unit was granted."""
    RENDER = "render"
    """A lease on a render unit was granted, or the plan is there."""
    ENCODE = "encode"
    """A lease on its encode unit was granted, or the last frame that it will have is there."""
    FINISH = "finish"
    """The video was accepted."""
    PAUSE = "pause"
    """Its budget or its owner stops it, no lease is open."""
    RESUME = "resume"
    """Owner or top-up lets it go on."""
    CANCEL = "cancel"
    """Its owner ends it, no lease is open."""
    FAIL = "fail"
    """A unit cannot be done."""


JOB: Final[dict[tuple[JobState, JobEvent], JobState]] = {
    (JobState.QUEUED, JobEvent.PARSE): JobState.PARSING,
    (JobState.QUEUED, JobEvent.RENDER): JobState.RENDERING,
    (JobState.QUEUED, JobEvent.ENCODE): JobState.ENCODING,
    (JobState.PARSING, JobEvent.PARSE): JobState.PARSING,
    (JobState.PARSING, JobEvent.RENDER): JobState.RENDERING,
    (JobState.RENDERING, JobEvent.RENDER): JobState.RENDERING,
    (JobState.RENDERING, JobEvent.ENCODE): JobState.ENCODING,
    (JobState.ENCODING, JobEvent.ENCODE): JobState.ENCODING,
    (JobState.ENCODING, JobEvent.FINISH): JobState.SUCCEEDED,
    (JobState.PAUSED, JobEvent.RESUME): JobState.QUEUED,
    (JobState.PAUSED, JobEvent.ENCODE): JobState.ENCODING,
    **{
        (state, event): target
        for state in (
            JobState.QUEUED,
            JobState.PARSING,
            JobState.RENDERING,
            JobState.ENCODING,
            JobState.PAUSED,
        )
        for event, target in (
            (JobEvent.PAUSE, JobState.PAUSED),
            (JobEvent.CANCEL, JobState.CANCELLED),
            (JobEvent.FAIL, JobState.FAILED),
        )
        if not (state is JobState.PAUSED and event is JobEvent.PAUSE)
    },
}

TERMINAL: Final = frozenset({JobState.SUCCEEDED, JobState.CANCELLED, JobState.FAILED})
RUNNABLE: Final = frozenset(
    {JobState.QUEUED, JobState.PARSING, JobState.RENDERING, JobState.ENCODING}
)
"""States in which a unit of the job may be granted."""


def step(state: JobState, event: JobEvent) -> JobState:
    """Return the state after `event`.

    Raises:
        IllegalStep: the life of a job has no such step.
    """
    try:
        return JOB[state, event]
    except KeyError:
        raise IllegalStep(state=state, event=event) from None


class UnitKind(StrEnum):
    """Work that one worker does at once."""

    PARSE = "parse"
    """Prompt parsing."""
    RENDER = "render"
    """A FrameBatch on a device."""
    ENCODE = "encode"
    """Assembly by FFmpeg."""


class Lane(StrEnum):
    """By which rule a unit was granted."""

    WEIGHT = "weight"
    """Its session was the furthest behind its share."""
    FLOOR = "floor"
    """The device owed its session's plan the time that is guaranteed to it."""
    AGE = "age"
    """Its session had waited too long."""


class UnitState(StrEnum):
    """State of a unit."""

    READY = "ready"
    """May be granted as soon as its job may run."""
    LEASED = "leased"
    """One open lease has it."""
    DONE = "done"
    """One attempt was accepted; its artifacts are the ones that count."""
    DROPPED = "dropped"
    """Its job ended, or a split replaced it."""


class LeaseState(StrEnum):
    """State of a worker's right to a unit. Every state but OPEN is final."""

    OPEN = "open"
    """Granted; the worker may run until it expires."""
    COMPLETED = "completed"
    """The worker reported an outcome and it was accepted."""
    RELEASED = "released"
    """The worker handed the unit back (shutdown, spot notice)."""
    LAPSED = "lapsed"
    """No word until expiry plus grace; the farm took the unit back."""


class Outcome(StrEnum):
    """Report of a worker on a unit it had."""

    DONE = "done"
    """All of it is there."""
    STOPPED = "stopped"
    """The limit, a pause or a cancel ended it; whole micro-batches are kept."""
    FAILED = "failed"
    """An error ended it; `Cause` says whose."""


class Cause(StrEnum):
    """Side at fault for a failed unit; decides who pays."""

    REQUEST = "request"
    """The request cannot be rendered; charged, and the job fails at once."""
    WORKER = "worker"
    """The machine, the driver or memory; the farm's loss, tried again elsewhere."""
    FARM = "farm"
    """Our own bug; the farm's loss, tried again."""


class Verdict(StrEnum):
    """Answer of a heartbeat about a lease."""

    GO = "go"
    """Carry on; the lease was renewed."""
    PAUSE = "pause"
    """Stop at the next step and complete as stopped."""
    CANCEL = "cancel"
    """Stop at the next step and complete as stopped; nothing need be kept."""
    GONE = "gone"
    """The lease is no longer yours; drop the work, report nothing."""


class WorkerState(StrEnum):
    """State of a worker: given work or not."""

    ACTIVE = "active"
    """May claim."""
    DRAINING = "draining"
    """Finishes what it has, gets nothing new."""
    QUARANTINED = "quarantined"
    """Failed units of several sessions; an operator looks first."""
    GONE = "gone"
    """Said goodbye, or was not seen for long."""


class SessionState(StrEnum):
    """State of a session: taking jobs or not."""

    OPEN = "open"
    """Takes jobs."""
    CLOSED = "closed"
    """Takes none; what is held is settled or released."""


class EntryKind(StrEnum):
    """One movement of GPU-ms between two accounts of the ledger."""

    GRANT = "grant"
    """issued -> available: a session opens with a limit."""
    TOP_UP = "top_up"
    """issued -> available: the limit is raised."""
    PLACE = "place"
    """available -> held: a job is submitted."""
    EXTEND = "extend"
    """available -> held: a job needs more than was held."""
    SETTLE = "settle"
    """held -> spent: a lease's measured GPU-ms."""
    RELEASE = "release"
    """held -> available: what a job no longer needs."""
    LOSS = "loss"
    """worked -> farm_loss: GPU-ms nobody is charged for."""
    TAKE = "take"
    """available -> issued: the limit is lowered."""
    ALERT = "alert"
    """No movement: a budget crossed a threshold."""
    REFUND = "refund"
    """spent -> available: what a job was charged that failed by the farm's fault."""


class AlertAction(StrEnum):
    """Action when spending crosses an alert, besides telling."""

    NOTIFY = "notify"
    """Nothing."""
    PAUSE_NEW = "pause_new"
    """No new job is taken while spending is not under it."""
    PAUSE_ALL = "pause_all"
    """Nor does a lease begin: jobs pause until spending is under it; videos are still encoded."""


class WebhookState(StrEnum):
    """State of an endpoint: sent anything or not."""

    ACTIVE = "active"
    """All it asked for is sent."""
    DISABLED = "disabled"
    """It answered 410 Gone; its owner may enable it again."""
    DELETED = "deleted"
    """Its owner deleted it; its deliveries stay in the log for a while."""


class DeliveryState(StrEnum):
    """State of a message to an endpoint."""

    PENDING = "pending"
    """It is sent as soon as it is due, and again until it is answered with a 2xx."""
    DELIVERED = "delivered"
    """The endpoint answered 2xx."""
    FAILED = "failed"
    """The last try failed, or its endpoint is gone; a replay sends it again."""


class KeyKind(StrEnum):
    """Kind of a key, by what it opens."""

    ADMIN = "admin"
    """Everything."""
    USER = "user"
    """All that is its account's."""
    READ = "read"
    """Looking at it, changing nothing."""
    SUBMIT = "submit"
    """Sending jobs and steering those, seeing nothing."""
    PAY = "pay"
    """Budgets: sessions, their limits, and what other keys may spend."""
    CONFIGURE = "configure"
    """Webhooks, alerts, and the end of keys."""
    WORKER = "worker"
    """The worker protocol, for one worker."""
    JOIN = "join"
    """hello of a new worker, which then gets a worker key."""
    SIGNIN = "signin"
    """One browser sign-in, once."""


class WayIn(StrEnum):
    """Way in which a browser signed in."""

    PERSON = "person"
    """By a name and a password, or at the operator's provider."""
    LINK = "link"
    """By a one-time link of `farm up`."""
    ADMIN = "admin"
    """By showing an admin key."""
    USER = "user"
    """By showing a user key."""


class LinkEnd(StrEnum):
    """Reason for which a share link ended before its time."""

    REVOKED = "revoked"
    """Its owner revoked it."""
    KEY = "key"
    """The key that made it ended."""
    JOB = "job"
    """Its job was deleted."""


class Scope(StrEnum):
    """Demand of a call on a key."""

    READ = "read"
    """See prompts, videos, receipts, budgets."""
    SPEND = "spend"
    """Quote and submit; pause, resume, finish, cancel and delete what the key submitted."""
    STEER = "steer"
    """Do that to every job of the account."""
    PAY = "pay"
    """Open, top up, lower, close and reopen sessions, move the default, set keys' allowances."""
    CONFIGURE = "configure"
    """Webhooks and their secrets, alerts, and the end of keys."""
    ADMIN = "admin"
    """Operate the farm: accounts, plans, people, new keys, workers, the brake."""
    WORKER = "worker"
    """Claim, beat and report."""
    ENROL = "enrol"
    """Say hello as a worker."""


OWNERS: Final = frozenset({Scope.READ, Scope.SPEND, Scope.STEER, Scope.PAY, Scope.CONFIGURE})
"""All that an account has."""
SCOPES: Final[dict[KeyKind, frozenset[Scope]]] = {
    KeyKind.ADMIN: OWNERS | {Scope.ADMIN},
    KeyKind.USER: OWNERS,
    KeyKind.READ: frozenset({Scope.READ}),
    KeyKind.SUBMIT: frozenset({Scope.SPEND}),
    KeyKind.PAY: frozenset({Scope.PAY}),
    KeyKind.CONFIGURE: frozenset({Scope.CONFIGURE}),
    KeyKind.WORKER: frozenset({Scope.WORKER, Scope.ENROL}),
    KeyKind.JOIN: frozenset({Scope.ENROL}),
    KeyKind.SIGNIN: frozenset(),
}
"""A key's kind is its set of scopes, and stands in its token for people to see."""
BOUND: Final = frozenset({Scope.READ, Scope.SPEND})
"""All that is left to a key that is bound: nothing that could pass its session or allowance."""


class Basis(StrEnum):
    """Source of a quote's figures."""

    DEVICE = "device"
    """Measured on the device that is to do it, the only one of its class."""
    CLASS = "class"
    """Measured on devices of its class."""
    CARD = "card"
    """Scaled from a model card: nobody has measured the model on that class."""


class Pricing(StrEnum):
    """Kind of price that a plan gives its jobs."""

    CEILING = "ceiling"
    """At most the quote's ceiling, held whole at submission; more is the farm's loss."""
    METERED = "metered"
    """All that was measured; the hold grows within session, month and the job's own cap."""


RAN_AWAY: Final = "ran_away"
"""The error code of a job that took many times its ceiling."""
UNIT_FAILED: Final = "unit_failed"
"""The error code of a job that the farm could not do: no fault of its request."""
FARMS_FAULT: Final = frozenset({UNIT_FAILED, RAN_AWAY})
"""Error codes of jobs for which nothing is charged."""
