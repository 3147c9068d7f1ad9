"""Sums for the operator's economics: sums over the ledger, shifts, caps that were hit."""

from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import Connection, and_, bindparam, case, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from orchestrator.model import Json, Shift
from orchestrator.states import EntryKind, JobState
from orchestrator.store import tables
from orchestrator.store.guards import missing_triggers
from orchestrator.store.statements import RECEIPTS

MEASURED = (EntryKind.SETTLE, EntryKind.LOSS, EntryKind.REFUND)
"""Movements that tell of device time."""


_PERIOD: Final = tables.plan_periods.c
_SPELLS: Final = select(
    _PERIOD.account_id,
    _PERIOD.plan,
    _PERIOD.price_microusd,
    _PERIOD.from_ms,
    func.lead(_PERIOD.from_ms)
    .over(partition_by=_PERIOD.account_id, order_by=_PERIOD.number)
    .label("until_ms"),
).subquery("spells")
"""Periods of plans with their ends; what began and ended in one millisecond holds at no moment."""

_JOB: Final = tables.jobs.c
_HOLDERS: Final = (
    select(_JOB.id, _JOB.state, _JOB.held_gpu_ms)
    .where(_JOB.held_gpu_ms > 0, _JOB.id != bindparam("but"))
    .order_by(_JOB.held_gpu_ms.desc(), _JOB.id)
    .limit(bindparam("limit"))
)
_OF_SESSION: Final = _HOLDERS.where(
    _JOB.session_id == bindparam("session_id"),
    _JOB.state.in_([state for state in JobState if not state.is_terminal]),
)
_OF_MONTH: Final = _HOLDERS.where(
    _JOB.account_id == bindparam("account_id"),
    _JOB.month_id == bindparam("month_id"),
    _JOB.finished_at_ms.is_(None),
)

_AT_ONCE: Final = 500
"""Rows that are fetched together of a table that may not fit into memory."""


class Books:
    """Questions that the books ask, the operator's and those that are checked."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def movements(self, from_ms: int, until_ms: int) -> list[Json]:
        """Return sums of measured entries by account, its plan then, model, device and kind.

        `monthly` tells whether that plan had a price a month. Then is when the lease ended: a
        refund takes back what it was settled as.
        """
        entry, job, lease = tables.entries.c, tables.jobs.c, tables.leases.c
        spell, then = _SPELLS.c, lease.resolved_at_ms
        by = (
            job.account_id.label("account_id"),
            func.coalesce(spell.plan, "").label("plan"),
            spell.price_microusd.is_not(None).label("monthly"),
            job.model.label("model"),
            lease.device_class.label("device_class"),
            entry.kind.label("kind"),
        )
        query = (
            select(
                *by,
                func.count().label("entries"),
                func.sum(entry.gpu_ms).label("gpu_ms"),
                func.sum(entry.price_microusd).label("price_microusd"),
            )
            .select_from(tables.entries)
            .join(tables.jobs, job.id == entry.job_id)
            .join(tables.leases, lease.id == entry.lease_id)
            .outerjoin(
                _SPELLS,
                and_(
                    spell.account_id == job.account_id,
                    spell.from_ms <= then,
                    or_(spell.until_ms.is_(None), spell.until_ms > then),
                ),
            )
            .where(entry.kind.in_(MEASURED), entry.at_ms >= from_ms, entry.at_ms < until_ms)
            .group_by(*by)
            .order_by(*by)
        )
        return [
            {**row._mapping, "gpu_ms": int(row.gpu_ms), "price_microusd": int(row.price_microusd)}
            for row in self.connection.execute(query)
        ]

    def shifts(self, from_ms: int, until_ms: int) -> list[Shift]:
        """Return the ended shifts that overlap this time."""
        t = tables.shifts.c
        query = select(tables.shifts).where(t.until_ms > from_ms, t.from_ms < until_ms)
        return [Shift(**row._mapping) for row in self.connection.execute(query)]

    def count_cap_hit(
        self, account_id: str, plan: str, model: str, day_ms: int, reason: str
    ) -> None:
        """Add one to a day's count."""
        dialect: Any = sqlite if self.connection.dialect.name == "sqlite" else postgresql
        t = tables.cap_hits
        query = dialect.insert(t).values(
            account_id=account_id, plan=plan, model=model, day_ms=day_ms, reason=reason, hits=1
        )
        self.connection.execute(
            query.on_conflict_do_update(
                index_elements=["account_id", "plan", "model", "day_ms", "reason"],
                set_={"hits": t.c.hits + 1},
            )
        )

    def cap_hits(self, from_ms: int, until_ms: int) -> list[Json]:
        """Return {account_id, plan, model, reason, hits} of the days that begin in this time."""
        t = tables.cap_hits.c
        by = (t.account_id, t.plan, t.model, t.reason)
        query = (
            select(*by, func.sum(t.hits).label("hits"))
            .where(t.day_ms >= from_ms, t.day_ms < until_ms)
            .group_by(*by)
            .order_by(*by)
        )
        return [{**row._mapping, "hits": int(row.hits)} for row in self.connection.execute(query)]

    def usage(self, by: str, since_ms: int, account_id: str | None) -> list[Json]:
        """Return settled and lost GPU-ms of leases resolved since then, grouped.

        `by`: user, session, model, worker or stage. Units are those that were charged, as the
        books count them: given back since or not.
        """
        lease, job = tables.leases, tables.jobs
        group = {
            "user": job.c.account_id,
            "session": lease.c.session_id,
            "model": job.c.model,
            "worker": lease.c.worker_id,
            "stage": lease.c.kind,
        }[by]
        charged = case((job.c.refunded_gpu_ms > 0, 0), else_=lease.c.settled_gpu_ms)
        query = (
            select(
                group.label("key"),
                func.sum(case((lease.c.settled_gpu_ms > 0, 1), else_=0)).label("units"),
                func.sum(charged).label("gpu_ms"),
                func.sum(lease.c.lost_gpu_ms + lease.c.settled_gpu_ms - charged).label(
                    "lost_gpu_ms"
                ),
            )
            .join(job, job.c.id == lease.c.job_id)
            .where(lease.c.resolved_at_ms >= since_ms)
            .group_by(group)
            .order_by(func.sum(charged).desc())
        )
        if account_id is not None:
            query = query.where(job.c.account_id == account_id)
        return [dict(row._mapping) for row in self.connection.execute(query)]

    def open_jobs(self, account_id: str) -> int:
        """Return how many jobs of an account have not ended."""
        job = tables.jobs.c
        mine = (job.account_id == account_id, job.finished_at_ms.is_(None))
        return self.connection.scalar(select(func.count()).where(*mine)) or 0

    def holders_of_session(
        self, session_id: str, *, but: str, limit: int
    ) -> dict[str, tuple[JobState, int]]:
        """Return state and held GPU-ms of the jobs that hold most of a session, beside one."""
        asked = {"session_id": session_id, "but": but, "limit": limit}
        return {row[0]: (row[1], row[2]) for row in self.connection.execute(_OF_SESSION, asked)}

    def holders_of_month(
        self, account_id: str, month_id: str, *, but: str, limit: int
    ) -> dict[str, tuple[JobState, int]]:
        """Return those that hold most of an account's month."""
        asked = {"account_id": account_id, "month_id": month_id, "but": but, "limit": limit}
        return {row[0]: (row[1], row[2]) for row in self.connection.execute(_OF_MONTH, asked)}

    def receipts(self) -> Iterator[tuple[str, str | None]]:
        """Give every lease's id and receipt, as the JSON that it is stored as, a few at a time."""
        rows = self.connection.execute(RECEIPTS, execution_options={"yield_per": _AT_ONCE})
        yield from (tuple(row) for row in rows)

    def missing_triggers(self) -> list[str]:
        """Return the triggers that should refuse a change of the past, and are gone or off."""
        return missing_triggers(self.connection)
