"""One transaction: rows in and out as the dataclasses of `orchestrator.model`."""

from collections.abc import Sequence
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    delete,
    func,
    insert,
    or_,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

from orchestrator.errors import Conflict
from orchestrator.farm.kernel.ports import Removable
from orchestrator.model import Json, Picture, Reference
from orchestrator.store import tables
from orchestrator.store.books import Books
from orchestrator.store.deliveries import Deliveries
from orchestrator.store.listings import Listings
from orchestrator.store.statements import (
    FACTS,
    by_id,
    changing,
    finding,
    looking,
)
from orchestrator.store.tables import TABLES
from orchestrator.store.turns import Turns

T = TypeVar("T")
_GUARDS = ("id", "state", "fence", "held_gpu_ms", "spent_gpu_ms", "entries", "revision")
"""Columns that must still be as they were for a row to be overwritten."""

_NAMES = {cls: tuple(table.c.keys()) for cls, table in TABLES.items()}


def _columns(row: object) -> Json:
    return {name: getattr(row, name) for name in _NAMES[type(row)]}


def _noun(cls: type[T], row: Any) -> T:
    return cls(**dict(zip(_NAMES[cls], row, strict=True)))


def _is_kept(now_ms: int) -> ColumnElement[bool]:
    """Return the condition of a file or character that has not expired."""
    until = tables.reference_images.c.expires_at_ms
    return or_(until.is_(None), until > now_ms)


class Transaction:
    """Reads and writes inside one BEGIN … COMMIT."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.turns = Turns(connection)
        self.books = Books(connection)
        self.deliveries = Deliveries(connection)
        self.listings = Listings(connection)
        self._ours: dict[tuple[type, str], Any] = {}
        """Rows as they stand that nobody else changes until we commit."""
        self._facts: Json | None = None

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
        **equal: object,
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

    def look(self, cls: type[T], *columns: str) -> Sequence[T]:
        """Return every row with these of its columns alone, in the order of ids.

        For who needs but a few of a large table. JSON is as it is stored, whoever wrote it.
        """
        rows: Sequence[Any] = self.connection.execute(looking(TABLES[cls], columns)).all()
        return rows

    def add(self, *rows: object) -> None:
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

    def fact(self, name: str, kind: type[T]) -> T | None:
        """Return one of the farm's own facts, None where there is none of this kind."""
        if self._facts is None:
            self._facts = {row.name: row.value for row in self.connection.execute(FACTS)}
        value = self._facts.get(name)
        return value if isinstance(value, kind) else None

    def set_fact(self, name: str, value: object) -> None:
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

    def forget(
        self,
        idempotency_before_ms: int,
        deliveries_before_ms: int,
        sign_ins_before_ms: int,
        links_before_ms: int,
    ) -> int:
        """Delete what is kept for a time only, and return how many rows that were."""
        keys, sent = tables.idempotency, tables.deliveries
        browsers, links = tables.sign_ins, tables.share_links
        old = (
            delete(keys).where(keys.c.created_at_ms < idempotency_before_ms),
            delete(sent).where(sent.c.ended_at_ms < deliveries_before_ms),
            delete(browsers).where(browsers.c.created_at_ms < sign_ins_before_ms),
            delete(links).where(links.c.expires_at_ms < links_before_ms),
        )
        return sum(self.connection.execute(query).rowcount for query in old)

    def keep_picture(self, key: str, size_bytes: int, at_ms: int) -> None:
        """Note that a picture lies among the artifacts, and keep its row until we commit."""
        dialect: Any = sqlite if self.connection.dialect.name == "sqlite" else postgresql
        facts = {
            "bytes": size_bytes,
            "kept_at_ms": at_ms,
            "removed_at_ms": None,
            "removed_name": "",
        }
        query = dialect.insert(tables.pictures).values(id=key, **facts)
        self.connection.execute(query.on_conflict_do_update(index_elements=["id"], set_=facts))
        self._ours.pop((Picture, key), None)

    def jobs_from_picture(self, key: str) -> list[tuple[str, str, bool]]:
        """Return (id, account, has not ended) of the jobs that start from a picture."""
        t = tables.jobs.c
        query = select(t.id, t.account_id, t.finished_at_ms.is_(None)).where(
            t.image == key, t.deleted_at_ms.is_(None)
        )
        return [(row[0], row[1], bool(row[2])) for row in self.connection.execute(query)]

    def storage_used(self, account_id: str, now_ms: int) -> dict[str, tuple[int, int]]:
        """Return (count, bytes) of an account's files and characters, by kind."""
        t = tables.reference_images.c
        query = (
            select(t.kind, func.count(), func.sum(t.bytes))
            .where(t.account_id == account_id, _is_kept(now_ms))
            .group_by(t.kind)
        )
        return {row[0]: (int(row[1]), int(row[2])) for row in self.connection.execute(query)}

    def expired_references(self, before_ms: int, after: str, limit: int) -> list[Reference]:
        """Return files and characters that expired until then, in the order of ids."""
        t = tables.reference_images
        query = (
            select(t)
            .where(t.c.expires_at_ms <= before_ms, t.c.id > after)
            .order_by(t.c.id)
            .limit(limit)
        )
        return [_noun(Reference, row) for row in self.connection.execute(query)]

    def remove(self, row: Removable) -> None:
        """Delete a row."""
        table = TABLES[type(row)]
        self.connection.execute(delete(table).where(table.c.id == row.id))
        self._ours.pop((type(row), row.id), None)
