"""Sums for the operator's economics: sums over the ledger, shifts, caps that were hit."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    BindParameter,
    Connection,
    and_,
    bindparam,
    case,
    func,
    or_,
    select,
    union_all,
)
from sqlalchemy.dialects import postgresql, sqlite

from orchestrator.model import Json, Shift, UsageSum
from orchestrator.money import ledger
from orchestrator.states import EntryKind, JobState
from orchestrator.store import tables
from orchestrator.store.guards import missing_triggers
from orchestrator.store.statements import RECEIPTS, Query

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
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
_OF_ALLOWANCE: Final = _HOLDERS.where(
    _JOB.account_id == bindparam("account_id"),
    _JOB.allowance_id == bindparam("allowance_id"),
    _JOB.finished_at_ms.is_(None),
)

_SUM: Final = tables.usage_sums.c
_LEASE: Final = tables.leases.c


def _adding(insert: Any) -> Any:
    made = insert(tables.usage_sums)
    more = {name: _SUM[name] + made.excluded[name] for name in ("units", "gpu_ms", "lost_gpu_ms")}
    key = [column.name for column in tables.usage_sums.primary_key]
    return made.on_conflict_do_update(index_elements=key, set_=more)


_ADD_USAGE: Final = {
    "sqlite": _adding(sqlite.insert),
    "postgresql": _adding(postgresql.insert),
}


@cache
def _usage(by: str, *, of_account: bool) -> Query:
    """Return the query for usage: of whole days, of hours before them, of leases before those."""
    name = {
        "user": "account_id",
        "session": "session_id",
        "model": "model",
        "worker": "worker_id",
        "stage": "kind",
    }[by]
    sums = select(_SUM[name].label("key"), _SUM.units, _SUM.gpu_ms, _SUM.lost_gpu_ms)
    key = _JOB[name] if name in ("account_id", "model") else _LEASE[name]
    charged = case((_JOB.refunded_gpu_ms > 0, 0), else_=_LEASE.settled_gpu_ms)
    single = (
        select(
            key.label("key"),
            case((_LEASE.settled_gpu_ms > 0, 1), else_=0).label("units"),
            charged.label("gpu_ms"),
            (_LEASE.lost_gpu_ms + _LEASE.settled_gpu_ms - charged).label("lost_gpu_ms"),
        )
        .join(tables.jobs, _JOB.id == _LEASE.job_id)
        .where(
            _LEASE.resolved_at_ms >= bindparam("since_ms"),
            _LEASE.resolved_at_ms < bindparam("hour_ms"),
            _LEASE.settled_gpu_ms + _LEASE.lost_gpu_ms > 0,
        )
    )
    days = sums.where(_SUM.span_ms == DAY_MS, _SUM.from_ms >= bindparam("day_ms"))
    hours = sums.where(
        _SUM.span_ms == HOUR_MS,
        _SUM.from_ms >= bindparam("hour_ms"),
        _SUM.from_ms < bindparam("day_ms"),
    )
    if of_account:
        mine: BindParameter[str] = bindparam("account_id")
        days, hours = (each.where(_SUM.account_id == mine) for each in (days, hours))
        single = single.where(_JOB.account_id == mine)
    part = union_all(days, hours, single).subquery()
    total = func.sum(part.c.gpu_ms)
    return (
        select(
            part.c.key,
            func.sum(part.c.units).label("units"),
            total.label("gpu_ms"),
            func.sum(part.c.lost_gpu_ms).label("lost_gpu_ms"),
        )
        .group_by(part.c.key)
        .order_by(total.desc(), part.c.key)
    )


_AT_ONCE: Final = 500
"""Rows that are fetched together of a table that may not fit into memory."""


class Books:
    """Questions that the books ask, the operator's and those that are checked."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def movements(self, from_ms: int, until_ms: int) -> list[Json]:
        """Return sums of measured entries by account, its plan then, model, device, kind and
        whether it was over a quote.

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
            (entry.note == ledger.OVER_QUOTE).label("over_quote"),
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
        books count them: given back since or not. Of whole days and hours there are sums; what
        ended between `since_ms` and the first whole hour is read lease by lease.
        """
        hour_ms, day_ms = (-(-since_ms // span) * span for span in (HOUR_MS, DAY_MS))
        asked = {"since_ms": since_ms, "hour_ms": hour_ms, "day_ms": day_ms}
        query = _usage(by, of_account=account_id is not None)
        rows = self.connection.execute(query, asked | {"account_id": account_id})
        return [
            {
                "key": row.key,
                "units": int(row.units),
                "gpu_ms": int(row.gpu_ms),
                "lost_gpu_ms": int(row.lost_gpu_ms),
            }
            for row in rows
        ]

    def add_usage(self, sums: Sequence[UsageSum]) -> None:
        """Add to the sums of usage; what is less by it is negative."""
        if not sums:
            return
        rows = [asdict(each) for each in sums]
        self.connection.execute(_ADD_USAGE[self.connection.dialect.name], rows)

    def usage_sums(self) -> list[UsageSum]:
        """Return all sums of usage."""
        found = self.connection.execute(select(tables.usage_sums))
        return [UsageSum(**row._mapping) for row in found]

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

    def holders_of_allowance(
        self, account_id: str, allowance_id: str, *, but: str, limit: int
    ) -> dict[str, tuple[JobState, int]]:
        """Return those that hold most of the allowance of a line of keys."""
        asked = {
            "account_id": account_id, "allowance_id": allowance_id, "but": but, "limit": limit
        }  # fmt: skip
        return {row[0]: (row[1], row[2]) for row in self.connection.execute(_OF_ALLOWANCE, asked)}

    def receipts(self) -> Iterator[tuple[str, str | None]]:
        """Give every lease's id and receipt, as the JSON that it is stored as, a few at a time."""
        rows = self.connection.execute(RECEIPTS, execution_options={"yield_per": _AT_ONCE})
        yield from (tuple(row) for row in rows)

    def missing_triggers(self) -> list[str]:
        """Return the triggers that should refuse a change of the past, and are gone or off."""
        return missing_triggers(self.connection)
