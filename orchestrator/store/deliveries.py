"""Events for a job's watchers and messages for endpoints: written, and found again when due."""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    BindParameter,
    Connection,
    String,
    bindparam,
    cast,
    column,
    delete,
    func,
    insert,
    select,
)

from orchestrator.model import Delivery, Event, Json
from orchestrator.states import DeliveryState, WebhookState
from orchestrator.store import tables
from orchestrator.store.statements import Query, literal
from orchestrator.store.tables import events


def _after_cursors(dialect: str) -> Query:
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


class Deliveries:
    """Words to those outside: events for a job's watchers, messages for endpoints."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def events_after(self, cursors: Mapping[str, int], limit: int) -> list[Event]:
        """Return the events of these jobs that are newer than each one's cursor, oldest first."""
        asked = {"cursors": json.dumps(dict(cursors)), "limit": limit}
        rows = self.connection.execute(_AFTER[self.connection.dialect.name], asked)
        return [Event(**row._mapping) for row in rows]

    def tell(self, job_id: str, events: Sequence[tuple[str, Json]], at_ms: int) -> None:
        """Append events, each a kind and its data, for the watchers of a job."""
        rows = [{"job_id": job_id, "kind": k, "data": data, "at_ms": at_ms} for k, data in events]
        if rows:
            self.connection.execute(insert(tables.events), rows)

    def last_event_id(self) -> int:
        """Return the newest event's id, 0 when there is none."""
        return self.connection.scalar(select(func.max(tables.events.c.id))) or 0

    def due(
        self, now_ms: int, busy: Sequence[str], full: Sequence[str], share: int, limit: int
    ) -> list[Delivery]:
        """Return the oldest due message of each active endpoint that is not busy.

        At most `share` of one account, and none of those that are `full`.
        """
        t, webhook = tables.deliveries, tables.webhooks
        waits = func.min(t.c.next_at_ms)
        first = (
            select(
                func.min(t.c.id).label("id"),
                waits.label("waits"),
                func.row_number()
                .over(partition_by=webhook.c.account_id, order_by=waits)
                .label("turn"),
            )
            .join(webhook, webhook.c.id == t.c.webhook_id)
            .where(
                t.c.state == literal(DeliveryState.PENDING),
                t.c.next_at_ms <= now_ms,
                t.c.webhook_id.not_in(busy),
                webhook.c.account_id.not_in(full),
                webhook.c.state == WebhookState.ACTIVE,
            )
            .group_by(t.c.webhook_id, webhook.c.account_id)
            .subquery()
        )
        fair = select(first.c.id).where(first.c.turn <= share)
        query = select(t).where(
            t.c.id.in_(fair.order_by(first.c.turn, first.c.waits).limit(limit).scalar_subquery())
        )
        return [Delivery(**row._mapping) for row in self.connection.execute(query)]

    def forget_job(self, job_id: str) -> None:
        """Delete a job's events; its rows stay, since the ledger names them."""
        self.connection.execute(delete(tables.events).where(tables.events.c.job_id == job_id))
