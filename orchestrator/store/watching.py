"""Questions that all streams of a process ask together: one statement for each."""

import json
from collections.abc import Collection, Mapping
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    BindParameter,
    Connection,
    Select,
    String,
    bindparam,
    cast,
    column,
    func,
    select,
)

from orchestrator.model import Event
from orchestrator.states import LeaseState, UnitState
from orchestrator.store.statements import literal
from orchestrator.store.tables import events, jobs, leases, units


def _after_cursors(dialect: str) -> Select[Any]:
    """Return the query for events behind each job's own cursor, {job id: event id} as JSON."""
    given: BindParameter[str] = bindparam("cursors")
    each = func.json_each(given) if dialect == "sqlite" else func.json_each_text(cast(given, JSON))
    watched = each.table_valued(column("key", String), column("value", String))
    return (
        select(events)
        .select_from(watched)
        .join(
            events,
            (events.c.job_id == watched.c.key) & (events.c.id > cast(watched.c.value, BigInteger)),
        )
        .order_by(events.c.id)
        .limit(bindparam("limit"))
    )


_AFTER: Final = {name: _after_cursors(name) for name in ("sqlite", "postgresql")}
_AMONG: Final[BindParameter[Any]] = bindparam("ids", expanding=True)
_OPEN_JOBS: Final = select(jobs.c.id).where(
    jobs.c.id.in_(_AMONG), jobs.c.finished_at_ms.is_(None), jobs.c.deleted_at_ms.is_(None)
)
_LEASED_JOBS: Final = (
    select(leases.c.job_id)
    .where(leases.c.job_id.in_(_AMONG), leases.c.state == literal(LeaseState.OPEN))
    .distinct()
)
_READY_QUEUES: Final = (
    select(units.c.job_id, func.min(units.c.queue))
    .where(units.c.job_id.in_(_AMONG), units.c.state == literal(UnitState.READY))
    .group_by(units.c.job_id)
)


class Watching:
    """Questions of a transaction about many jobs at once."""

    connection: Connection

    def events_after(self, cursors: Mapping[str, int], limit: int) -> list[Event]:
        """Return the events of these jobs that are newer than each one's cursor, oldest first."""
        asked = {"cursors": json.dumps(dict(cursors)), "limit": limit}
        rows = self.connection.execute(_AFTER[self.connection.dialect.name], asked)
        return [Event(**row._mapping) for row in rows]

    def open_among(self, job_ids: Collection[str]) -> frozenset[str]:
        """Return those of these jobs that have neither ended nor been deleted."""
        return frozenset(self.connection.scalars(_OPEN_JOBS, {"ids": list(job_ids)}))

    def leased_among(self, job_ids: Collection[str]) -> frozenset[str]:
        """Return those of these jobs that a worker has a unit of."""
        return frozenset(self.connection.scalars(_LEASED_JOBS, {"ids": list(job_ids)}))

    def ready_queues(self, job_ids: Collection[str]) -> dict[str, str]:
        """Return a queue in which each of these jobs has a ready unit, where it has one."""
        found = self.connection.execute(_READY_QUEUES, {"ids": list(job_ids)})
        return {row[0]: row[1] for row in found}
