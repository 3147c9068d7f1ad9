"""The tables: one per noun of `orchestrator.model`, column by field.

Every CHECK is derived from the enums, so that SQL refuses what the core would. The budget's
law, `held + spent <= limit`, is a CHECK too: no bug above can commit an overspent session.
"""

from enum import StrEnum
from typing import Any, Final, TypeAlias

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Enum,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from orchestrator import model
from orchestrator.states import (
    DeliveryState,
    EntryKind,
    Intent,
    JobState,
    KeyKind,
    Lane,
    LeaseState,
    LinkEnd,
    Outcome,
    PauseReason,
    SessionState,
    UnitKind,
    UnitState,
    WayIn,
    WebhookState,
    WorkerState,
)
from orchestrator.store.conversion import Converted

AnyColumn: TypeAlias = Column[Any]
metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _id(parent: str | None = None, *, null: bool = False, name: str = "id") -> AnyColumn:
    links = [ForeignKey(parent)] if parent else []
    return Column(name, String(64), *links, primary_key=name == "id", nullable=null)


def _word(name: str, words: type[StrEnum], *, null: bool = False) -> AnyColumn:
    kind = Enum(
        words,
        native_enum=False,
        create_constraint=True,
        length=20,
        name=name,
        values_callable=lambda members: [m.value for m in members],
    )
    return Column(name, kind, nullable=null)


def _ms(name: str, *, null: bool = False) -> AnyColumn:
    return Column(name, BigInteger, nullable=null)


def _count(name: str) -> AnyColumn:
    return Column(name, Integer, nullable=False)


def _json(noun: type, name: str, *, null: bool = False) -> AnyColumn:
    return Column(name, Converted(noun, name), nullable=null)


accounts: Final = Table(
    "accounts",
    metadata,
    _id(),
    Column("name", String(200), nullable=False),
    Column("plan", String(40), nullable=False),
    _id(name="default_session_id"),
    _json(model.Account, "alerts", null=True),
    _ms("created_at_ms"),
)

plan_periods: Final = Table(
    "plan_periods",
    metadata,
    _id(),
    _id("accounts.id", name="account_id"),
    _count("number"),
    Column("plan", String(40), nullable=False),
    _ms("price_microusd", null=True),
    _ms("from_ms"),
    UniqueConstraint("account_id", "number"),
)
"""Append-only like the entries, so that no change of plans changes what is past."""

months: Final = Table(
    "months",
    metadata,
    _id(),
    _id("accounts.id", name="account_id"),
    Column("plan", String(40), nullable=False),
    _ms("cap_gpu_ms", null=True),
    _ms("limit_gpu_ms", null=True),
    _ms("held_gpu_ms"),
    _ms("spent_gpu_ms"),
    _json(model.Month, "alerts", null=True),
    _count("alerted_percent"),
    CheckConstraint(
        "held_gpu_ms >= 0 AND spent_gpu_ms >= 0 AND "
        "(limit_gpu_ms IS NULL OR held_gpu_ms + spent_gpu_ms <= limit_gpu_ms)",
        name="budget",
    ),
    Index(None, "account_id"),
)

sessions: Final = Table(
    "sessions",
    metadata,
    _id(),
    _id("accounts.id", name="account_id"),
    Column("name", String(200), nullable=False),
    _word("state", SessionState),
    _ms("limit_gpu_ms"),
    _ms("held_gpu_ms"),
    _ms("spent_gpu_ms"),
    _ms("target_gpu_ms", null=True),
    _json(model.Session, "alerts", null=True),
    _count("alerted_percent"),
    _ms("virtual_us"),
    Column("plan", String(40), nullable=False),
    _ms("waits_from_ms"),
    _count("entries"),
    Column("head_sha256", String(64), nullable=False),
    _ms("created_at_ms"),
    CheckConstraint(
        "held_gpu_ms >= 0 AND spent_gpu_ms >= 0 AND held_gpu_ms + spent_gpu_ms <= limit_gpu_ms",
        name="budget",
    ),
    UniqueConstraint("account_id", "name"),
)
_HOLDS = text("held_gpu_ms > 0")
Index("ix_sessions_busy", sessions.c.virtual_us,
      sqlite_where=_HOLDS, postgresql_where=_HOLDS)  # fmt: skip
Index("ix_sessions_floor", sessions.c.plan, sessions.c.virtual_us,
      sqlite_where=_HOLDS, postgresql_where=_HOLDS)  # fmt: skip
Index("ix_sessions_waits", sessions.c.waits_from_ms,
      sqlite_where=_HOLDS, postgresql_where=_HOLDS)  # fmt: skip

allowances: Final = Table(
    "allowances",
    metadata,
    _id(),
    _id("accounts.id", name="account_id"),
    _ms("limit_gpu_ms"),
    _ms("held_gpu_ms"),
    _ms("spent_gpu_ms"),
    CheckConstraint(
        "held_gpu_ms >= 0 AND spent_gpu_ms >= 0 AND held_gpu_ms + spent_gpu_ms <= limit_gpu_ms",
        name="budget",
    ),
)

jobs: Final = Table(
    "jobs",
    metadata,
    _id(),
    _id("accounts.id", name="account_id"),
    _id(name="key_id", null=True),
    _id("allowances.id", name="allowance_id", null=True),
    _id("sessions.id", name="session_id"),
    _id("months.id", name="month_id"),
    _word("state", JobState),
    _word("intent", Intent, null=True),
    _word("pause_reason", PauseReason, null=True),
    _json(model.Job, "brief"),
    _json(model.Job, "render_plan"),
    Column("parsed", Boolean, nullable=False),
    _json(model.Job, "quote"),
    Column("image", String(200)),
    Column("model", String(100), nullable=False),
    _count("width"),
    _count("height"),
    _count("fps"),
    _count("steps"),
    _ms("seed"),
    _count("frames_total"),
    _count("frames_done"),
    Column("truncated", Boolean, nullable=False),
    _ms("held_gpu_ms"),
    _ms("spent_gpu_ms"),
    _ms("refunded_gpu_ms"),
    _ms("cap_gpu_ms", null=True),
    _ms("ceiling_gpu_ms", null=True),
    _ms("runaway_gpu_ms", null=True),
    _ms("over_quote_gpu_ms"),
    Column("ran_away", Boolean, nullable=False),
    _ms("encode_reserve_gpu_ms"),
    _json(model.Job, "error", null=True),
    _json(model.Job, "artifacts"),
    _count("revision"),
    _ms("created_at_ms"),
    _ms("started_at_ms", null=True),
    _ms("resumed_at_ms", null=True),
    _ms("finished_at_ms", null=True),
    _ms("deleted_at_ms", null=True),
    _id(name="webhook_id", null=True),
    _json(model.Job, "rulings"),
    _json(model.Job, "tags"),
    _json(model.Job, "metadata"),
    _json(model.Job, "webhook_events"),
    _ms("keep_ms", null=True),
    Column("keep_asked", Boolean, nullable=False),
    _ms("keep_until_ms", null=True),
    _ms("expires_at_ms", null=True),
    _ms("expired_at_ms", null=True),
    _ms("remove_at_ms", null=True),
    CheckConstraint("held_gpu_ms >= 0 AND spent_gpu_ms >= 0", name="sums"),
    CheckConstraint("cap_gpu_ms IS NULL OR held_gpu_ms + spent_gpu_ms <= cap_gpu_ms", name="cap"),
    CheckConstraint(
        "ceiling_gpu_ms IS NULL OR held_gpu_ms + spent_gpu_ms <= ceiling_gpu_ms", name="ceiling"
    ),
    CheckConstraint(
        "held_gpu_ms = 0 OR state NOT IN ('succeeded', 'cancelled', 'failed')", name="terminal"
    ),
    CheckConstraint("(state = 'paused') = (pause_reason IS NOT NULL)", name="paused"),
    CheckConstraint("frames_done <= frames_total", name="frames"),
    Index(None, "session_id", "state", "id"),
    Index(None, "image"),
)

_RUNS = text("finished_at_ms IS NULL")
# With its condition's column: else SQLite fetches every open job's row, plan and all, to count.
Index("ix_jobs_open", jobs.c.account_id, jobs.c.finished_at_ms,
      sqlite_where=_RUNS, postgresql_where=_RUNS)  # fmt: skip
_TO_REMOVE = text("remove_at_ms IS NOT NULL")
Index("ix_jobs_remove", jobs.c.remove_at_ms,
      sqlite_where=_TO_REMOVE, postgresql_where=_TO_REMOVE)  # fmt: skip

labels: Final = Table(
    "labels",
    metadata,
    Column("job_id", String(64), ForeignKey("jobs.id"), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("value", String(512), primary_key=True),
    _id("accounts.id", name="account_id"),
    Index(None, "account_id", "key", "value", "job_id"),
    Index(None, "key", "value", "job_id"),
)
"""Tags and metadata by which jobs are found; a tag is the value of the key that is empty."""
_KEPT = text("deleted_at_ms IS NULL")
# One for each way in which somebody may look through the list: a part of it costs what it shows.
for _name, _by in {
    "ix_jobs_listed": ("id",),
    "ix_jobs_listed_by_state": ("state", "id"),
    "ix_jobs_listed_of_account": ("account_id", "id"),
    "ix_jobs_listed_of_account_by_state": ("account_id", "state", "id"),
    "ix_jobs_listed_by_model": ("model", "id"),
    "ix_jobs_listed_of_account_by_model": ("account_id", "model", "id"),
    "ix_jobs_listed_of_session": ("session_id", "id"),
}.items():
    Index(_name, *(jobs.c[_column] for _column in _by),
          sqlite_where=_KEPT, postgresql_where=_KEPT)  # fmt: skip

workers: Final = Table(
    "workers",
    metadata,
    _id(),
    Column("name", String(100), nullable=False),
    Column("host", String(200), nullable=False),
    Column("device", String(50), nullable=False),
    Column("device_class", String(50), nullable=False),
    _count("memory_mb"),
    _json(model.Worker, "kinds"),
    _json(model.Worker, "models"),
    Column("fingerprint", String(100), nullable=False),
    _json(model.Worker, "versions"),
    _word("state", WorkerState),
    Column("polls", Boolean, nullable=False),
    _json(model.Worker, "blamed"),
    _count("flags"),
    _ms("unexplained_ms"),
    _ms("metered_to_ms"),
    _json(model.Worker, "owed"),
    Column("warm", String(120), nullable=False),
    _ms("warm_from_ms"),
    _ms("since_ms"),
    _ms("seen_at_ms"),
    _ms("created_at_ms"),
)

units: Final = Table(
    "units",
    metadata,
    _id(),
    _id("jobs.id", name="job_id"),
    _id("sessions.id", name="session_id"),
    _word("kind", UnitKind),
    _word("state", UnitState),
    Column("queue", String(120), nullable=False),
    _count("first_frame"),
    _count("frames"),
    _count("stride"),
    _count("batch"),
    _ms("p50_gpu_ms"),
    _ms("p90_gpu_ms"),
    _ms("minimum_gpu_ms"),
    _count("fence"),
    _count("attempts"),
    Column("last_worker_id", String(64), nullable=True),
    Column("accepted_lease_id", String(64), nullable=True),
    _json(model.Unit, "checkpoint", null=True),
    _ms("prepaid_gpu_ms"),
    _ms("rung_at_ms", null=True),
    _ms("created_at_ms"),
    CheckConstraint("(state = 'done') = (accepted_lease_id IS NOT NULL)", name="accepted"),
    Index(None, "job_id", "first_frame"),
)
_READY = text("state = 'ready'")
Index("ix_units_ready", units.c.session_id, units.c.queue, units.c.created_at_ms,
      sqlite_where=_READY, postgresql_where=_READY)  # fmt: skip
Index("ix_units_ring", units.c.queue, units.c.rung_at_ms,
      sqlite_where=_READY, postgresql_where=_READY)  # fmt: skip

leases: Final = Table(
    "leases",
    metadata,
    _id(),
    _id("units.id", name="unit_id"),
    _id("jobs.id", name="job_id"),
    _id("sessions.id", name="session_id"),
    _id("workers.id", name="worker_id"),
    Column("worker_name", String(100), nullable=False),
    Column("device", String(50), nullable=False),
    Column("device_class", String(50), nullable=False),
    _word("kind", UnitKind),
    _word("lane", Lane),
    _ms("virtual_us"),
    _count("fence"),
    _count("epoch"),
    _word("state", LeaseState),
    _ms("gpu_ms_limit"),
    _ms("granted_at_ms"),
    _ms("expires_at_ms"),
    _count("sequence"),
    _ms("used_gpu_ms"),
    _count("frames_done"),
    _count("steps_done"),
    _ms("worked_ms"),
    _word("outcome", Outcome, null=True),
    _ms("settled_gpu_ms"),
    _ms("lost_gpu_ms"),
    _ms("over_quote_gpu_ms"),
    _json(model.Lease, "receipt", null=True),
    _ms("resolved_at_ms", null=True),
    UniqueConstraint("unit_id", "fence"),
    CheckConstraint("settled_gpu_ms >= 0 AND settled_gpu_ms <= gpu_ms_limit", name="limit"),
    CheckConstraint("(state = 'open') = (resolved_at_ms IS NULL)", name="resolved"),
    Index(None, "job_id"),
)
_OPEN = text("state = 'open'")
_ENDED = text("resolved_at_ms IS NOT NULL")
Index("ix_leases_ended", leases.c.resolved_at_ms, sqlite_where=_ENDED, postgresql_where=_ENDED)
Index("ix_leases_open", leases.c.expires_at_ms, sqlite_where=_OPEN, postgresql_where=_OPEN)
Index("ix_leases_open_worker", leases.c.worker_id, sqlite_where=_OPEN, postgresql_where=_OPEN)
Index("ux_leases_open_unit", leases.c.unit_id, unique=True,
      sqlite_where=_OPEN, postgresql_where=_OPEN)  # fmt: skip

entries: Final = Table(
    "entries",
    metadata,
    _id(),
    _ms("at_ms"),
    _word("kind", EntryKind),
    _id("sessions.id", name="session_id"),
    _id("jobs.id", name="job_id", null=True),
    _id("leases.id", name="lease_id", null=True),
    _id("months.id", name="month_id", null=True),
    _ms("gpu_ms"),
    Column("debit", String(100), nullable=False),
    Column("credit", String(100), nullable=False),
    Column("note", Text, nullable=False),
    _ms("price_microusd"),
    Column("rates", String(40), nullable=False),
    Column("receipt_sha256", String(64), nullable=False),
    _count("number"),
    Column("previous_sha256", String(64), nullable=False),
    Column("sha256", String(64), nullable=False),
    CheckConstraint("gpu_ms > 0 OR kind = 'alert'", name="amount"),
    CheckConstraint("debit <> credit", name="two_accounts"),
    UniqueConstraint("session_id", "number"),
    Index(None, "session_id", "id"),
    Index(None, "at_ms"),
    Index(None, "job_id"),
    Index(None, "month_id"),
)

keys: Final = Table(
    "keys",
    metadata,
    _id(),
    _id("accounts.id", name="account_id", null=True),
    _id("workers.id", name="worker_id", null=True),
    _word("kind", KeyKind),
    Column("name", String(200), nullable=False),
    Column("secret_sha256", String(64), nullable=False, unique=True),
    _ms("created_at_ms"),
    _ms("expires_at_ms", null=True),
    _ms("revoked_at_ms", null=True),
    _ms("used_at_ms", null=True),
    _id(name="successor_id", null=True),
    _id(name="first_id"),
    _id("sessions.id", name="session_id", null=True),
    _id("allowances.id", name="allowance_id", null=True),
    _json(model.Key, "device_classes", null=True),
    Column("uses", Integer),
    _count("times_used"),
    Column("attempt_sha256", String(64)),
    Index(None, "account_id"),
)

people: Final = Table(
    "people",
    metadata,
    _id(),
    _id("accounts.id", name="account_id"),
    Column("name", String(100), nullable=False, unique=True),
    Column("password_hash", String(200), nullable=False),
    Column("subject", String(600), unique=True),
    _ms("created_at_ms"),
    _ms("password_at_ms"),
    Index(None, "account_id"),
)

sign_ins: Final = Table(
    "sign_ins",
    metadata,
    _id(),
    _id("accounts.id", name="account_id"),
    _word("way", WayIn),
    _id(name="holder_id"),
    _ms("password_at_ms", null=True),
    _ms("created_at_ms"),
    Index(None, "holder_id"),
    Index(None, "created_at_ms"),
)

share_links: Final = Table(
    "share_links",
    metadata,
    _id(),
    _id("accounts.id", name="account_id"),
    _id("jobs.id", name="job_id"),
    Column("name", String(20), nullable=False),
    Column("secret_sha256", String(64), nullable=False, unique=True),
    _id(name="key_id", null=True),
    _id(name="person_id", null=True),
    Column("ends_with_key", Boolean, nullable=False),
    _ms("created_at_ms"),
    _ms("expires_at_ms"),
    _ms("ended_at_ms", null=True),
    _word("ended_by", LinkEnd, null=True),
    CheckConstraint("(ended_at_ms IS NULL) = (ended_by IS NULL)", name="ended"),
    CheckConstraint("key_id IS NOT NULL OR NOT ends_with_key", name="key"),
    Index(None, "account_id", "id"),
    Index(None, "job_id", "id"),
    Index(None, "key_id"),
    Index(None, "expires_at_ms"),
)

events: Final = Table(
    "events",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    _id("jobs.id", name="job_id"),
    Column("kind", String(20), nullable=False),
    _json(model.Event, "data"),
    _ms("at_ms"),
    Index(None, "job_id", "id"),
    sqlite_autoincrement=True,
)

samples: Final = Table(
    "samples",
    metadata,
    _id(),
    Column("model", String(100), nullable=False),
    Column("device_class", String(50), nullable=False),
    _word("kind", UnitKind),
    _ms("gpu_ms"),
    Column("work", Float, nullable=False),
    _count("steps"),
    Column("megapixels", Float, nullable=False),
    _ms("denoise_gpu_ms"),
    _ms("decode_gpu_ms"),
    _ms("load_gpu_ms"),
    Column("worker_id", String(64), nullable=False),
    _ms("at_ms"),
    Index(None, "model", "kind", "id"),
)

paces: Final = Table(
    "paces",
    metadata,
    _id(),
    _id("workers.id", name="worker_id"),
    Column("model", String(100), nullable=False),
    Column("device_class", String(50), nullable=False),
    Column("megapixels", Float, nullable=False),
    Column("step_gpu_ms", Float, nullable=False),
    Column("decode_gpu_ms", Float, nullable=False),
    _ms("load_gpu_ms"),
    _ms("at_ms"),
    UniqueConstraint("worker_id", "model", "megapixels"),
    Index(None, "model", "at_ms"),
)

shifts: Final = Table(
    "shifts",
    metadata,
    _id(),
    _id("workers.id", name="worker_id"),
    Column("device_class", String(50), nullable=False),
    _ms("from_ms"),
    _ms("until_ms"),
    Index(None, "until_ms"),
)

cap_hits: Final = Table(
    "cap_hits",
    metadata,
    Column("account_id", String(64), ForeignKey("accounts.id"), primary_key=True),
    Column("plan", String(40), primary_key=True),
    Column("model", String(100), primary_key=True),
    Column("day_ms", BigInteger, primary_key=True),
    Column("reason", String(20), primary_key=True),
    _count("hits"),
)
"""Count of a day's refusals by budgets; `reason` is one of `farm.books.cap_hits`."""

usage_sums: Final = Table(
    "usage_sums",
    metadata,
    Column("span_ms", BigInteger, primary_key=True),
    Column("from_ms", BigInteger, primary_key=True),
    Column("account_id", String(64), ForeignKey("accounts.id"), primary_key=True),
    Column("session_id", String(64), ForeignKey("sessions.id"), primary_key=True),
    Column("model", String(100), primary_key=True),
    Column("worker_id", String(64), ForeignKey("workers.id"), primary_key=True),
    Column("kind", _word("kind", UnitKind).type, primary_key=True),
    _ms("units"),
    _ms("gpu_ms"),
    _ms("lost_gpu_ms"),
    Index(None, "account_id", "span_ms", "from_ms"),
)
"""Sums over the leases that ended in an hour or a day; `farm.check` adds them up anew."""

job_samples: Final = Table(
    "job_samples",
    metadata,
    _id(),
    _id("jobs.id", name="job_id"),
    Column("model", String(100), nullable=False),
    Column("device_class", String(50), nullable=False),
    _ms("p50_gpu_ms"),
    _ms("p90_gpu_ms"),
    _ms("spent_gpu_ms"),
    Column("measured", Boolean, nullable=False),
    _ms("at_ms"),
    Index(None, "model", "id"),
)

idempotency: Final = Table(
    "idempotency",
    metadata,
    Column("account_id", String(64), primary_key=True),
    Column("key", String(200), primary_key=True),
    Column("body_sha256", String(64), nullable=False),
    Column("result_id", String(64), nullable=False),
    _ms("created_at_ms"),
)

attempts: Final = Table(
    "attempts",
    metadata,
    _id(),
    _id("accounts.id", name="account_id"),
    Column("request_sha256", String(64), nullable=False),
    _id("jobs.id", name="job_id"),
    _count("made_by_try"),
    _count("newest_try"),
    _ms("at_ms"),
    Index(None, "account_id", "request_sha256"),
    Index(None, "account_id", "at_ms"),
)

reference_images: Final = Table(
    "reference_images",
    metadata,
    _id(),
    _id("accounts.id", name="account_id"),
    Column("kind", String(20), nullable=False),
    Column("name", String(200), nullable=False),
    Column("image", String(200), nullable=False),
    _ms("bytes"),
    _ms("created_at_ms"),
    _ms("expires_at_ms", null=True),
    Index(None, "account_id", "kind", "id"),
    Index(None, "image"),
    Index(None, "expires_at_ms"),
)

pictures: Final = Table(
    "pictures",
    metadata,
    Column("id", String(200), primary_key=True),
    _ms("bytes"),
    _ms("kept_at_ms"),
    _ms("removed_at_ms", null=True),
    Column("removed_name", String(200), nullable=False),
)

webhooks: Final = Table(
    "webhooks",
    metadata,
    _id(),
    _id("accounts.id", name="account_id"),
    Column("url", String(2048), nullable=False),
    _json(model.Webhook, "kinds"),
    Column("operator", Boolean, nullable=False),
    Column("for_jobs", Boolean, nullable=False),
    _word("state", WebhookState),
    Column("why", String(300), nullable=False),
    Column("secret", String(200), nullable=False),
    Column("old_secret", String(200), nullable=True),
    _ms("old_until_ms", null=True),
    _ms("created_at_ms"),
    Index(None, "account_id", "for_jobs", "state"),
)

deliveries: Final = Table(
    "deliveries",
    metadata,
    _id(),
    _id("webhooks.id", name="webhook_id"),
    Column("kind", String(40), nullable=False),
    Column("body", Text, nullable=False),
    _word("state", DeliveryState),
    _count("attempts"),
    _json(model.Delivery, "tries"),
    _ms("next_at_ms"),
    _ms("created_at_ms"),
    _ms("ended_at_ms", null=True),
    CheckConstraint("(state = 'pending') = (ended_at_ms IS NULL)", name="ended"),
    Index(None, "webhook_id", "id"),
)
_PENDING = text("state = 'pending'")
Index("ix_deliveries_due", deliveries.c.next_at_ms,
      sqlite_where=_PENDING, postgresql_where=_PENDING)  # fmt: skip

audit_log: Final = Table(
    "audit_log",
    metadata,
    _id(),
    _ms("at_ms"),
    Column("verb", String(40), nullable=False),
    Column("target", String(200), nullable=False),
    _id(name="account_id", null=True),
    _id(name="key_id", null=True),
    Column("source", String(100), nullable=False),
    _json(model.AuditEntry, "data"),
)
"""Append-only like the entries: a trigger refuses to change or delete one."""

facts: Final = Table(
    "facts",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("value", JSON(none_as_null=True), nullable=False),
)
"""The farm's own few facts: `epoch`, `frozen`, `dispatcher` (who holds the lock, until when),
`looked` (what the newest look at the whole store found), `month` (the last that began) and `plans`
(which rules hold, and for how many accounts so far)."""

TABLES: Final[dict[type, Table]] = {
    model.Account: accounts,
    model.PlanPeriod: plan_periods,
    model.Month: months,
    model.Session: sessions,
    model.Allowance: allowances,
    model.Job: jobs,
    model.Worker: workers,
    model.Unit: units,
    model.Lease: leases,
    model.Entry: entries,
    model.Key: keys,
    model.Person: people,
    model.SignIn: sign_ins,
    model.ShareLink: share_links,
    model.Event: events,
    model.Sample: samples,
    model.Pace: paces,
    model.Attempt: attempts,
    model.Reference: reference_images,
    model.Picture: pictures,
    model.Webhook: webhooks,
    model.Delivery: deliveries,
    model.AuditEntry: audit_log,
    model.JobSample: job_samples,
    model.Shift: shifts,
}
