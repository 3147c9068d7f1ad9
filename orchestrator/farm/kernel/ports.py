"""Questions that the farm asks its store. `orchestrator.store` answers on SQLite and Postgres."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeAlias, TypeVar, Unpack, overload

from orchestrator.farm.kernel.where import (
    AccountWhere,
    AllowanceWhere,
    AttemptWhere,
    AuditEntryWhere,
    DeliveryWhere,
    EntryWhere,
    EventWhere,
    JobSampleWhere,
    JobsWanted,
    JobWhere,
    KeyWhere,
    Label,
    LeaseWhere,
    MonthWhere,
    PaceWhere,
    PersonWhere,
    PictureWhere,
    PlanPeriodWhere,
    ReferenceWhere,
    SampleWhere,
    SessionWhere,
    ShareLinkWhere,
    SignInWhere,
    UnitWhere,
    WebhookWhere,
    WorkerWhere,
)
from orchestrator.model import (
    Account,
    Allowance,
    Attempt,
    AuditEntry,
    Delivery,
    Entry,
    Event,
    Job,
    JobSample,
    Json,
    Key,
    Lease,
    Month,
    Pace,
    Person,
    Picture,
    PlanPeriod,
    Reference,
    Sample,
    Session,
    ShareLink,
    Shift,
    SignIn,
    Unit,
    UsageSum,
    Webhook,
    Worker,
)
from orchestrator.states import JobState

T = TypeVar("T")
Removable: TypeAlias = Person | SignIn | Reference
"""Rows that may go; all others stay, whatever becomes of what they tell of."""


class Turns(Protocol):
    """Questions about who works and waits, and who is next."""

    def is_at_work(self, session_id: str, *, but: str) -> bool:
        """Tell whether a session has a job that may run, beside this one."""

    def current_virtual_us(self, *, but: str, model: str) -> int:
        """Return the virtual time at which somebody without work beside this job joins."""

    def sessions_with_work(self, queues: Sequence[str], limit: int) -> list[Session]:
        """Return sessions with a grantable unit, lowest pass first."""

    def sessions_of_plan(self, plan: str, queues: Sequence[str], limit: int) -> list[Session]:
        """Return those of one plan, lowest pass first."""

    def sessions_waiting(self, before_ms: int, queues: Sequence[str], limit: int) -> list[Session]:
        """Return those that wait since before then, longest first."""

    def jobs_in_line(self) -> list[Json]:
        """Return every job that may run with its session's turn."""

    def busy_workers(self) -> frozenset[str]:
        """Return the workers that have an open lease."""

    def work_in_hand(self) -> list[Json]:
        """Return every open lease: its worker and grant, what it should take and what it made."""

    def ready_work(self) -> dict[str, int]:
        """Return what the ready units of each job should take, in GPU-ms."""

    def ready_units(self, session_id: str, queues: Sequence[str], limit: int) -> list[Unit]:
        """Return a session's grantable units."""

    def unrung_units(self, queue: str, before_ms: int, limit: int) -> list[Unit]:
        """Return grantable units of a queue nobody was rung for lately."""

    def mark_rung(self, unit_ids: Sequence[str], at_ms: int) -> None:
        """Note that a device was rung."""

    def lapsed_leases(self, before_ms: int) -> list[Lease]:
        """Return open leases that expired before then."""

    def queue_depths(self) -> list[tuple[str, str, int]]:
        """Return (queue, unit state, count)."""

    def at_work(self, model: str) -> dict[str, frozenset[str]]:
        """Return the active workers that have a model, by device class."""

    def open_among(self, job_ids: Collection[str]) -> frozenset[str]:
        """Return those of these jobs that have neither ended nor been deleted."""

    def leased_among(self, job_ids: Collection[str]) -> frozenset[str]:
        """Return those of these jobs that a worker has a unit of."""

    def ready_queues(self, job_ids: Collection[str]) -> dict[str, str]:
        """Return a queue in which each of these jobs has a ready unit, where it has one."""


class Books(Protocol):
    """Questions that the books ask, the operator's and those that are checked."""

    def movements(self, from_ms: int, until_ms: int) -> list[Json]:
        """Return sums of measured entries by account, its plan then, model, device and kind."""

    def shifts(self, from_ms: int, until_ms: int) -> list[Shift]:
        """Return the ended shifts that overlap this time."""

    def count_cap_hit(
        self, account_id: str, plan: str, model: str, day_ms: int, reason: str
    ) -> None:
        """Add one to a day's count."""

    def cap_hits(self, from_ms: int, until_ms: int) -> list[Json]:
        """Return the caps that were hit on the days that begin in this time."""

    def usage(self, by: str, since_ms: int, account_id: str | None) -> list[Json]:
        """Return settled and lost GPU-ms, grouped."""

    def add_usage(self, sums: Sequence[UsageSum]) -> None:
        """Add to the sums of usage; what is less by it is negative."""

    def usage_sums(self) -> list[UsageSum]:
        """Return all sums of usage."""

    def open_jobs(self, account_id: str) -> int:
        """Return how many jobs of an account have not ended."""

    def holders_of_session(
        self, session_id: str, *, but: str, limit: int
    ) -> dict[str, tuple[JobState, int]]:
        """Return state and held GPU-ms of the jobs that hold most of a session, beside one."""

    def holders_of_month(
        self, account_id: str, month_id: str, *, but: str, limit: int
    ) -> dict[str, tuple[JobState, int]]:
        """Return those that hold most of an account's month."""

    def holders_of_allowance(
        self, account_id: str, allowance_id: str, *, but: str, limit: int
    ) -> dict[str, tuple[JobState, int]]:
        """Return those that hold most of the allowance of a line of keys."""

    def receipts(self) -> Iterator[tuple[str, str | None]]:
        """Give every lease's id and receipt, as the JSON that it is stored as."""

    def missing_triggers(self) -> list[str]:
        """Return the triggers that keep the past as it is, and are gone or off."""


class Deliveries(Protocol):
    """Words to those outside: events for a job's watchers, messages for endpoints."""

    def tell(self, job_id: str, events: Sequence[tuple[str, Json]], at_ms: int) -> None:
        """Append events, each a kind and its data."""

    def last_event_id(self) -> int:
        """Return the newest event's id."""

    def events_after(self, cursors: Mapping[str, int], limit: int) -> list[Event]:
        """Return the events of these jobs that are newer than each one's cursor, oldest first."""

    def due(
        self, now_ms: int, busy: Sequence[str], full: Sequence[str], share: int, limit: int
    ) -> list[Delivery]:
        """Return the oldest due message of each active endpoint that is not busy.

        At most `share` of one account, and none of those that are `full`.
        """

    def forget_job(self, job_id: str) -> None:
        """Delete a job's events."""


class Listings(Protocol):
    """Questions about the jobs there are, and the labels that they are found by."""

    def jobs(self, wanted: JobsWanted, limit: int, *, oldest_first: bool = False) -> list[Job]:
        """Return up to so many of the jobs that are wanted, in the order of their ids."""

    def label(self, job_id: str, account_id: str, words: Collection[Label]) -> None:
        """Have a job found by these labels and no others."""

    def to_remove(self, now_ms: int, limit: int) -> list[str]:
        """Return jobs whose files are to be looked at by now, the longest due first."""


class Transaction(Protocol):
    """One moment of the truth: its rows, and four ports for what rows alone do not answer."""

    @property
    def turns(self) -> Turns:
        """Questions about turns."""

    @property
    def books(self) -> Books:
        """Questions of the books."""

    @property
    def deliveries(self) -> Deliveries:
        """Words to those outside."""

    @property
    def listings(self) -> Listings:
        """Lists of jobs."""

    def get(self, cls: type[T], key: str | None, *, lock: bool = False) -> T | None:
        """Return the row with this id."""

    @overload
    def find(self, cls: type[Account], **where: Unpack[AccountWhere]) -> list[Account]: ...

    @overload
    def find(self, cls: type[Allowance], **where: Unpack[AllowanceWhere]) -> list[Allowance]: ...

    @overload
    def find(self, cls: type[Attempt], **where: Unpack[AttemptWhere]) -> list[Attempt]: ...

    @overload
    def find(self, cls: type[AuditEntry], **where: Unpack[AuditEntryWhere]) -> list[AuditEntry]: ...

    @overload
    def find(self, cls: type[Delivery], **where: Unpack[DeliveryWhere]) -> list[Delivery]: ...

    @overload
    def find(self, cls: type[Entry], **where: Unpack[EntryWhere]) -> list[Entry]: ...

    @overload
    def find(self, cls: type[Event], **where: Unpack[EventWhere]) -> list[Event]: ...

    @overload
    def find(self, cls: type[Job], **where: Unpack[JobWhere]) -> list[Job]: ...

    @overload
    def find(self, cls: type[JobSample], **where: Unpack[JobSampleWhere]) -> list[JobSample]: ...

    @overload
    def find(self, cls: type[Key], **where: Unpack[KeyWhere]) -> list[Key]: ...

    @overload
    def find(self, cls: type[Lease], **where: Unpack[LeaseWhere]) -> list[Lease]: ...

    @overload
    def find(self, cls: type[Month], **where: Unpack[MonthWhere]) -> list[Month]: ...

    @overload
    def find(self, cls: type[Pace], **where: Unpack[PaceWhere]) -> list[Pace]: ...

    @overload
    def find(self, cls: type[Person], **where: Unpack[PersonWhere]) -> list[Person]: ...

    @overload
    def find(self, cls: type[Picture], **where: Unpack[PictureWhere]) -> list[Picture]: ...

    @overload
    def find(self, cls: type[PlanPeriod], **where: Unpack[PlanPeriodWhere]) -> list[PlanPeriod]: ...

    @overload
    def find(self, cls: type[Reference], **where: Unpack[ReferenceWhere]) -> list[Reference]: ...

    @overload
    def find(self, cls: type[Sample], **where: Unpack[SampleWhere]) -> list[Sample]: ...

    @overload
    def find(self, cls: type[Session], **where: Unpack[SessionWhere]) -> list[Session]: ...

    @overload
    def find(self, cls: type[ShareLink], **where: Unpack[ShareLinkWhere]) -> list[ShareLink]: ...

    @overload
    def find(self, cls: type[SignIn], **where: Unpack[SignInWhere]) -> list[SignIn]: ...

    @overload
    def find(self, cls: type[Unit], **where: Unpack[UnitWhere]) -> list[Unit]: ...

    @overload
    def find(self, cls: type[Webhook], **where: Unpack[WebhookWhere]) -> list[Webhook]: ...

    @overload
    def find(self, cls: type[Worker], **where: Unpack[WorkerWhere]) -> list[Worker]: ...

    def find(self, cls: type[T], **where: object) -> list[T]:
        """Return the rows that match, by what `farm.kernel.where` says of each noun."""

    def look(self, cls: type[T], *columns: str) -> Sequence[T]:
        """Return every row with these of its columns alone, and JSON as it is stored."""

    def add(self, *rows: object) -> None:
        """Insert rows."""

    def save(self, old: T, new: T) -> T:
        """Write what differs; Conflict when somebody else did first."""

    def fact(self, name: str, kind: type[T]) -> T | None:
        """Return one of the farm's own facts, None where there is none of this kind."""

    def set_fact(self, name: str, value: object) -> None:
        """Write one of the farm's own facts."""

    def remembered(self, account_id: str, key: str) -> tuple[str, str] | None:
        """Return (body_sha256, result_id) of a used idempotency key."""

    def remember(self, account_id: str, key: str, body: str, result_id: str, at_ms: int) -> None:
        """Keep an idempotency key."""

    def forget_attempts(self, account_id: str, before_ms: int) -> None:
        """Delete an account's attempts that are older than this moment."""

    def forget(
        self,
        idempotency_before_ms: int,
        deliveries_before_ms: int,
        sign_ins_before_ms: int,
        links_before_ms: int,
    ) -> int:
        """Delete what is kept for a time only."""

    def keep_picture(self, key: str, size_bytes: int, at_ms: int) -> None:
        """Note that a picture lies among the artifacts, and keep its row until we commit."""

    def jobs_from_picture(self, key: str) -> list[tuple[str, str, bool]]:
        """Return (id, account, has not ended) of the jobs that start from a picture."""

    def storage_used(self, account_id: str, now_ms: int) -> dict[str, tuple[int, int]]:
        """Return (count, bytes) of an account's files and characters, by kind."""

    def expired_references(self, before_ms: int, after: str, limit: int) -> list[Reference]:
        """Return files and characters that expired until then, in the order of ids."""

    def remove(self, row: Removable) -> None:
        """Delete a row."""


class Store(Protocol):
    """The database's URL."""

    one_writer: bool
    """Tell whether a writer keeps all others out, so that rows need no order to be locked in."""

    def read(self) -> AbstractContextManager[Transaction]:
        """Open a transaction that only looks."""

    def write(self) -> AbstractContextManager[Transaction]:
        """Open a transaction that commits whole or not at all."""
