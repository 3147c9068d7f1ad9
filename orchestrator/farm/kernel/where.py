"""Conditions on rows: of each noun the fields that queries name, with their types.

A tuple of values means any of them. A `…Match` is what may be put together bit by bit, before it
is known which part of a list is asked for. A test holds every name and type to the noun's field.
"""

from typing import Literal, TypeAlias, TypedDict, TypeVar

from orchestrator.states import (
    DeliveryState,
    EntryKind,
    JobState,
    KeyKind,
    LeaseState,
    PauseReason,
    SessionState,
    UnitKind,
    UnitState,
    WebhookState,
    WorkerState,
)

V = TypeVar("V")
Among: TypeAlias = V | tuple[V, ...]


class Bounds(TypedDict, total=False):
    """Bounds of the rows that match, and their order."""

    order: str
    """Columns, `-` before one for descending; `id` where nothing is said."""
    limit: int
    after: str | int | None
    """An id, behind which they begin."""
    before: str | None
    lock: bool
    """Nobody else changes them until the transaction ends."""


class AccountWhere(Bounds, total=False):
    """Accounts."""

    id: Among[str]


class AttemptWhere(Bounds, total=False):
    """Requests that made a job."""

    account_id: Among[str]
    request_sha256: Among[str]


class AuditEntryMatch(TypedDict, total=False):
    """Administrative actions."""

    verb: Among[str]


class AuditEntryWhere(AuditEntryMatch, Bounds, total=False):
    """Administrative actions, which of them, in which order."""


class DeliveryWhere(Bounds, total=False):
    """Messages to endpoints."""

    webhook_id: Among[str]
    kind: Among[str]
    state: Among[DeliveryState]


class EntryWhere(Bounds, total=False):
    """Movements of the ledger."""

    session_id: Among[str]
    job_id: Among[str] | None
    kind: Among[EntryKind]


class EventWhere(Bounds, total=False):
    """Events."""

    job_id: Among[str]


class JobMatch(TypedDict, total=False):
    """Jobs."""

    id: Among[str]
    account_id: Among[str]
    session_id: Among[str]
    month_id: Among[str]
    state: Among[JobState]
    pause_reason: Among[PauseReason] | None
    image: Among[str] | None
    deleted_at_ms: Among[int] | None


class JobWhere(JobMatch, Bounds, total=False):
    """Jobs, which of them, in which order."""


class JobSampleWhere(Bounds, total=False):
    """Ended jobs against their quotes."""

    model: Among[str]


class KeyWhere(Bounds, total=False):
    """Keys."""

    id: Among[str]
    account_id: Among[str] | None
    kind: Among[KeyKind]
    name: Among[str]
    secret_sha256: Among[str]
    revoked_at_ms: Among[int] | None
    successor_id: Among[str] | None
    attempt_sha256: Among[str]


class LeaseWhere(Bounds, total=False):
    """Leases."""

    job_id: Among[str]
    worker_id: Among[str]
    kind: Among[UnitKind]
    state: Among[LeaseState]


class MonthWhere(Bounds, total=False):
    """Months of accounts."""

    account_id: Among[str]


class PersonWhere(Bounds, total=False):
    """People who sign in."""

    id: Among[str]
    name: Among[str]
    subject: Among[str] | None


class PlanPeriodWhere(Bounds, total=False):
    """Plans of accounts, each from a moment on."""

    account_id: Among[str]


class ReferenceWhere(Bounds, total=False):
    """Kept pictures."""

    account_id: Among[str]
    kind: Among[Literal["character", "file"]]
    name: Among[str]
    image: Among[str]


class SampleWhere(Bounds, total=False):
    """Measured units."""

    model: Among[str]
    kind: Among[UnitKind]


class SessionMatch(TypedDict, total=False):
    """Sessions."""

    account_id: Among[str]
    name: Among[str]
    state: Among[SessionState]


class SessionWhere(SessionMatch, Bounds, total=False):
    """Sessions, which of them, in which order."""


class UnitMatch(TypedDict, total=False):
    """Units of one job."""

    kind: Among[UnitKind]
    state: Among[UnitState]


class UnitWhere(UnitMatch, Bounds, total=False):
    """Units."""

    job_id: Among[str]


class WebhookMatch(TypedDict, total=False):
    """Webhook endpoints."""

    id: Among[str]
    account_id: Among[str]
    operator: Among[bool]
    for_jobs: Among[bool]
    state: Among[WebhookState]


class WebhookWhere(WebhookMatch, Bounds, total=False):
    """Webhook endpoints, which of them, in which order."""


class WorkerWhere(Bounds, total=False):
    """Workers."""

    device_class: Among[str]
    state: Among[WorkerState]
    polls: Among[bool]
