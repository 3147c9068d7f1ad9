"""One transaction: rows in and out as the dataclasses of `orchestrator.model`."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import (
    Connection,
    Text,
    case,
    cast,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from orchestrator.errors import Conflict
from orchestrator.model import Delivery, Json, Lease, Person, Sample, Unit
from orchestrator.states import DeliveryState, UnitState, WebhookState, WorkerState
from orchestrator.store import tables
from orchestrator.store.fair_share import FairShareQueries
from orchestrator.store.guards import Guards
from orchestrator.store.statements import (
    FACTS,
    LAPSED_LEASES,
    READY_UNITS,
    RECEIPTS,
    UNRUNG_UNITS,
    by_id,
    changing,
    finding,
    looking,
)
from orchestrator.store.sums import SumQueries
from orchestrator.store.tables import TABLES
from orchestrator.store.watching import Watching

T = TypeVar("T")
_GUARDS = ("id", "state", "fence", "held_gpu_ms", "spent_gpu_ms", "entries", "revision")
"""Columns that must still be as they were for a row to be overwritten."""

_AT_ONCE = 500
"""Rows that are fetched together of a table that may not fit into memory."""

_NAMES = {cls: tuple(table.c.keys()) for cls, table in TABLES.items()}


def _columns(row: Any) -> Json:
    return {name: getattr(row, name) for name in _NAMES[type(row)]}


def _noun(cls: type[T], row: Any) -> T:
    return cls(**dict(zip(_NAMES[cls], row, strict=True)))


class Transaction(FairShareQueries, SumQueries, Guards, Watching):
    """Reads and writes inside one BEGIN … COMMIT."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._ours: dict[tuple[type[Any], str], Any] = {}
        """Rows as they stand that nobody else changes until we commit."""
        self._facts: dict[str, Any] | None = None

    # --- any noun ------------------------------------------------------------------------

    def get(self, cls: type[T], key: str | None, *, lock: bool = False) -> T | None:
        """Return the row with this id. `lock`: nobody else changes it until we commit."""
        if key is None:
            return None
        ours: T | None = self._ours.get((cls, key))
        if ours is not None:
            return ours
        row = self.connection.execute(by_id(TABLES[cls], lock=lock), {"id_": key}).first()
        found = _noun(cls, row) if row else None
        if lock and found is not None:
            self._ours[cls, key] = found
        return found

    def find(
        self,
        cls: type[T],
        *,
        order: str = "id",
        limit: int | None = None,
        after: str | int | None = None,
        before: str | None = None,
        lock: bool = False,
        **equal: Any,
    ) -> list[T]:
        """Return the rows whose columns equal (or are in the given tuple of) these values.

        `order` names columns, `-` before one for descending; `after` and `before` bound the id.
        """
        bounds = {"after": after, "before": before, "limit": limit}
        query, values = finding(TABLES[cls], order, bounds, equal, lock=lock)
        rows = self.connection.execute(query, values)
        found = [_noun(cls, row) for row in rows]
        if lock:
            self._ours |= {(cls, _columns(row)["id"]): row for row in found}
        return found

    def look(self, cls: type[T], *columns: str) -> Sequence[Any]:
        """Return these columns of every row, in the order of ids: for who needs but a few."""
        return self.connection.execute(looking(TABLES[cls], columns)).all()

    def receipts(self) -> Iterator[tuple[str, str | None]]:
        """Give every lease's id and receipt, as the JSON that it is stored as, a few at a time."""
        rows = self.connection.execute(RECEIPTS, execution_options={"yield_per": _AT_ONCE})
        yield from (tuple(row) for row in rows)

    def add(self, *rows: Any) -> None:
        """Insert rows."""
        for cls in dict.fromkeys(type(row) for row in rows):
            same = [_columns(row) for row in rows if type(row) is cls]
            self.connection.execute(insert(TABLES[cls]), same)

    def save(self, old: T, new: T) -> T:
        """Write what differs between `old` and `new`, if the row still is as `old` says.

        Raises:
            Conflict: somebody changed its state, fence or sums in between.
        """
        before, after = _columns(old), _columns(new)
        changed = {name: value for name, value in after.items() if before[name] != value}
        if not changed:
            return new
        guards = tuple(name for name in _GUARDS if name in before)
        values = {f"was_{name}": before[name] for name in guards}
        values |= {f"new_{name}": value for name, value in changed.items()}
        query = changing(TABLES[type(new)], guards, tuple(changed))
        if self.connection.execute(query, values).rowcount != 1:
            raise Conflict(f"{type(new).__name__} {before['id']} changed meanwhile.")
        self._ours[type(new), before["id"]] = new
        return new

    # --- events, facts, idempotency ---------------------------------------------------------

    def tell(self, job_id: str, events: Sequence[tuple[str, Json]], at_ms: int) -> None:
        """Append events, each a kind and its data, for the watchers of a job."""
        rows = [{"job_id": job_id, "kind": k, "data": data, "at_ms": at_ms} for k, data in events]
        if rows:
            self.connection.execute(insert(tables.events), rows)

    def last_event_id(self) -> int:
        """Return the newest event's id, 0 when there is none."""
        return self.connection.scalar(select(func.max(tables.events.c.id))) or 0

    def fact(self, name: str) -> Any:
        """Return one of the farm's own facts, or None."""
        if self._facts is None:
            self._facts = {row.name: row.value for row in self.connection.execute(FACTS)}
        return self._facts.get(name)

    def set_fact(self, name: str, value: Any) -> None:
        """Write one of the farm's own facts."""
        dialect: Any = sqlite if self.connection.dialect.name == "sqlite" else postgresql
        query = dialect.insert(tables.facts).values(name=name, value=value)
        self.connection.execute(
            query.on_conflict_do_update(index_elements=["name"], set_={"value": value})
        )
        self._facts = None

    def remembered(self, account_id: str, key: str) -> tuple[str, str] | None:
        """Return (body_sha256, result_id) of an idempotency key that was used."""
        t = tables.idempotency
        query = select(t.c.body_sha256, t.c.result_id).where(
            t.c.account_id == account_id, t.c.key == key
        )
        row = self.connection.execute(query).first()
        return (row.body_sha256, row.result_id) if row else None

    def remember(self, account_id: str, key: str, body: str, result_id: str, at_ms: int) -> None:
        """Keep an idempotency key with the answer it led to."""
        row = {
            "account_id": account_id,
            "key": key,
            "body_sha256": body,
            "result_id": result_id,
            "created_at_ms": at_ms,
        }
        self.connection.execute(insert(tables.idempotency), row)

    def forget_attempts(self, account_id: str, before_ms: int) -> None:
        """Delete an account's attempts that are older than this moment."""
        t = tables.attempts
        query = delete(t).where(t.c.account_id == account_id, t.c.at_ms < before_ms)
        self.connection.execute(query)

    # --- what the farm asks ------------------------------------------------------------------

    def open_jobs(self, account_id: str) -> int:
        """Return how many jobs of an account have not ended."""
        job = tables.jobs.c
        mine = (job.account_id == account_id, job.finished_at_ms.is_(None))
        return self.connection.scalar(select(func.count()).where(*mine)) or 0

    def ready_units(self, session_id: str, queues: Sequence[str], limit: int) -> list[Unit]:
        """Return a session's grantable units: of jobs that may run, oldest first."""
        asked = {"session_id": session_id, "queues": queues, "limit": limit}
        return [_noun(Unit, row) for row in self.connection.execute(READY_UNITS, asked)]

    def unrung_units(self, queue: str, before_ms: int, limit: int) -> list[Unit]:
        """Return grantable units of a queue that nobody was rung for since `before_ms`."""
        asked = {"queues": [queue], "before_ms": before_ms, "limit": limit}
        return [_noun(Unit, row) for row in self.connection.execute(UNRUNG_UNITS, asked)]

    def mark_rung(self, unit_ids: Sequence[str], at_ms: int) -> None:
        """Note that a device was rung for these units."""
        query = update(tables.units).where(tables.units.c.id.in_(unit_ids))
        self.connection.execute(query.values(rung_at_ms=at_ms))

    def lapsed_leases(self, before_ms: int) -> list[Lease]:
        """Return open leases that expired before this moment."""
        rows = self.connection.execute(LAPSED_LEASES, {"before_ms": before_ms})
        return [_noun(Lease, row) for row in rows]

    def queue_depths(self) -> list[tuple[str, str, int]]:
        """Return (queue, unit state, count) of ready and leased units."""
        t = tables.units
        query = (
            select(t.c.queue, t.c.state, func.count())
            .where(t.c.state.in_((UnitState.READY, UnitState.LEASED)))
            .group_by(t.c.queue, t.c.state)
        )
        return [(q, s, n) for q, s, n in self.connection.execute(query)]

    def classes_at_work(self, model: str) -> frozenset[str]:
        """Return the device classes of the active workers that have a model."""
        t = tables.workers
        models = cast(t.c.models, Text)
        query = select(t.c.device_class, models).where(t.c.state == WorkerState.ACTIVE).distinct()
        found = self.connection.execute(query)
        return frozenset(name for name, names in found if model in json.loads(names))

    def newest_samples(self, model: str, kind: str, limit: int) -> list[Sample]:
        """Return the newest measured units of a model, newest first."""
        return self.find(Sample, order="-id", limit=limit, model=model, kind=kind)

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

    def due_deliveries(
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
                t.c.state == DeliveryState.PENDING,
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
        return [_noun(Delivery, row) for row in self.connection.execute(query)]

    def forget(self, idempotency_before_ms: int, deliveries_before_ms: int) -> int:
        """Delete what is kept for a time only, and return how many rows that were."""
        keys, sent = tables.idempotency, tables.deliveries
        old = (
            delete(keys).where(keys.c.created_at_ms < idempotency_before_ms),
            delete(sent).where(sent.c.ended_at_ms < deliveries_before_ms),
        )
        return sum(self.connection.execute(query).rowcount for query in old)

    def remove_person(self, person_id: str) -> None:
        """Delete somebody who may sign in."""
        self.connection.execute(delete(tables.people).where(tables.people.c.id == person_id))
        self._ours.pop((Person, person_id), None)

    def forget_job(self, job_id: str) -> None:
        """Delete a job's events; its rows stay, since the ledger names them."""
        self.connection.execute(delete(tables.events).where(tables.events.c.job_id == job_id))
