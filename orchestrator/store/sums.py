"""Sums for the operator's economics: sums over the ledger, shifts, caps that were hit."""

from typing import Any, Final

from sqlalchemy import Connection, and_, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from orchestrator.model import Json, Shift
from orchestrator.states import EntryKind
from orchestrator.store import tables

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


class SumQueries:
    """Questions of a transaction that only the books ask."""

    connection: Connection

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
