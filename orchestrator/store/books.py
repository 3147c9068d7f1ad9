"""What the operator's books ask of the store: sums over the ledger, shifts, caps that were hit."""

from typing import Any

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects import postgresql, sqlite

from orchestrator.model import Json, Shift
from orchestrator.states import EntryKind
from orchestrator.store import tables

MEASURED = (EntryKind.SETTLE, EntryKind.LOSS, EntryKind.REFUND)
"""Movements that tell of device time."""


class Books:
    """Questions of a transaction that only the books ask."""

    connection: Connection

    def movements(self, from_ms: int, until_ms: int) -> list[Json]:
        """Return sums of measured entries by account, plan, model, device class and kind."""
        entry, job, worker = tables.entries.c, tables.jobs.c, tables.workers.c
        account = tables.accounts.c
        by = (
            job.account_id.label("account_id"),
            account.plan.label("plan"),
            job.model.label("model"),
            worker.device_class.label("device_class"),
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
            .join(tables.accounts, account.id == job.account_id)
            .join(tables.leases, tables.leases.c.id == entry.lease_id)
            .join(tables.workers, worker.id == tables.leases.c.worker_id)
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

    def count_cap_hit(self, account_id: str, model: str, day_ms: int, reason: str) -> None:
        """Add one to a day's count."""
        dialect: Any = sqlite if self.connection.dialect.name == "sqlite" else postgresql
        t = tables.cap_hits
        query = dialect.insert(t).values(
            account_id=account_id, model=model, day_ms=day_ms, reason=reason, hits=1
        )
        self.connection.execute(
            query.on_conflict_do_update(
                index_elements=["account_id", "model", "day_ms", "reason"],
                set_={"hits": t.c.hits + 1},
            )
        )

    def cap_hits(self, from_ms: int, until_ms: int) -> list[Json]:
        """Return {account_id, plan, model, reason, hits} of the days that begin in this time."""
        t, account = tables.cap_hits.c, tables.accounts.c
        by = (t.account_id, account.plan, t.model, t.reason)
        query = (
            select(*by, func.sum(t.hits).label("hits"))
            .join(tables.accounts, account.id == t.account_id)
            .where(t.day_ms >= from_ms, t.day_ms < until_ms)
            .group_by(*by)
            .order_by(*by)
        )
        return [{**row._mapping, "hits": int(row.hits)} for row in self.connection.execute(query)]
