"""Conditions on rows: of each noun the fields that queries name, with their types.

A tuple of values means any of them. A `…Match` is what may be put together bit by bit, before it
is known which part of a list is asked for. A test holds every name and type to the noun's field.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
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
    WayIn,
    WebhookState,
    WorkerState,
)

V = TypeVar("V")
Label: TypeAlias = tuple[str, str]
"""A key of a job's metadata and its value, or for a tag nothing and the tag."""
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


class AllowanceWhere(Bounds, total=False):
    """Allowances of keys."""

    id: Among[str]
    account_id: Among[str]


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
    allowance_id: Among[str] | None
    session_id: Among[str]
    month_id: Among[str]
    state: Among[JobState]
    pause_reason: Among[PauseReason] | None
    image: Among[str] | None
    finished_at_ms: Among[int] | None
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
    attempt_sha256: Among[str] | None


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


class PictureWhere(Bounds, total=False):
    """Pictures among the artifacts."""

    id: Among[str]


class PlanPeriodWhere(Bounds, total=False):
    """Plans of accounts, each from a moment on."""

    account_id: Among[str]


class ReferenceMatch(TypedDict, total=False):
    """Kept pictures."""

    account_id: Among[str]
    kind: Among[Literal["character", "file"]]
    name: Among[str]
    image: Among[str]


class ReferenceWhere(ReferenceMatch, Bounds, total=False):
    """Kept pictures, which of them, in which order."""


class PaceWhere(Bounds, total=False):
    """Models' paces on workers."""

    worker_id: Among[str]
    model: Among[str]


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


class ShareLinkMatch(TypedDict, total=False):
    """Share links."""

    account_id: Among[str]
    job_id: Among[str]
    secret_sha256: Among[str]
    key_id: Among[str] | None
    ends_with_key: Among[bool]
    ended_at_ms: Among[int] | None


class ShareLinkWhere(ShareLinkMatch, Bounds, total=False):
    """Share links, which of them, in which order."""


class SignInMatch(TypedDict, total=False):
    """Browsers that are signed in."""

    id: Among[str]
    account_id: Among[str]
    way: Among[WayIn]
    holder_id: Among[str]


class SignInWhere(SignInMatch, Bounds, total=False):
    """Browsers that are signed in, which of them, in which order."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsWanted:
    """Jobs that were not deleted, by everything that is said here; None: whatever it is."""

    account_id: str | None = None
    session_id: str | None = None
    state: JobState | None = None
    model: str | None = None
    since_ms: int | None = None
    """Created then or later."""
    until_ms: int | None = None
    """Created before then."""
    since_id: str | None = None
    """Ids sort by time: where the ids of `since_ms` begin at the earliest."""
    until_id: str | None = None
    """And where those of `until_ms` end at the latest."""
    after: str | None = None
    before: str | None = None
    labels: tuple[Label, ...] = ()
    """All of them."""

    def given(self) -> Mapping[str, str | int]:
        """Return what is said, but for the labels."""
        names = (each.name for each in fields(self) if each.name != "labels")
        said = {name: getattr(self, name) for name in names}
        return {name: value for name, value in said.items() if value is not None}
