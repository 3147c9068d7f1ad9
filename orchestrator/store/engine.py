"""Opening SQLite and Postgres so that neither loses or bends a transaction."""

import random
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pysqlite3.dbapi2 as sqlite
from sqlalchemy import URL, Engine, NullPool, create_engine, event, make_url
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from orchestrator.errors import BadRequest, Contended, Unavailable
from orchestrator.remedies import Listing, LookAt, Say

BUSY_MS = 10_000
"""Time that a writer waits for another one before it gives up."""

NAP_SECONDS: Final = (0.001, 0.005)
KEPT: Final = 8
"""Connections to SQLite that wait for a transaction, at most; a process has few threads for it."""

GAVE_WAY: Final = frozenset({"40001", "40P01", "55P03"})
"""SQLSTATEs of a serialization failure, a deadlock and a lock that was not had in time."""
FIRST_COMES: Final = (
    *("idempotency", "sessions.account_id", "uq_sessions"),
    *("months.id", "pk_months"),
)
"""Constraints of an IntegrityError when a row that was looked for in vain was just written."""


def make_engine(url: str) -> Engine:
    """Return an engine for `sqlite:///path` or `postgresql+psycopg://…`."""
    parsed = _parsed(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, isolation_level="READ COMMITTED")
    if parsed.database:
        Path(parsed.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return as_ours(create_engine(parsed, module=sqlite, poolclass=KeptConnections))


class KeptConnections(NullPool):
    """Connections that wait for the next transaction, with the statements they have prepared.

    Opening one takes 0.7 ms of CPU. Two transactions never share one at a time, whatever threads
    they are in: taking from a deque and adding to it are atomic. SQLAlchemy's own pool has locks,
    which gevent's version of would be waited for on native threads.
    """

    def __init__(self, *args: Any, **how: Any) -> None:
        super().__init__(*args, **how)
        self._idle: deque[ConnectionPoolEntry] = deque()

    def dispose(self) -> None:
        """Close the connections that nobody uses."""
        while self._idle:
            self._idle.pop().close()

    def _do_get(self) -> ConnectionPoolEntry:
        try:
            return self._idle.pop()
        except IndexError:
            return self._create_connection()

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        if len(self._idle) < KEPT:
            self._idle.append(record)
        else:
            record.close()


def _parsed(url: str) -> URL:
    """Return an URL; all behind `sqlite:///` is a path, though it has a `?` in it."""
    head = "sqlite:///"
    if url.startswith(head):
        return URL.create("sqlite", database=url.removeprefix(head))
    return make_url(url)


def as_ours(engine: Engine) -> Engine:
    """Have an SQLite engine open its connections and begin its transactions as ours do."""
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


class Patience:
    """The wait of one connection for another process's turn: a short nap, then it looks again.

    SQLite's own naps grow to 100 ms, in which others who come and go quickly are always first:
    of eight busy processes one then waits for longer than `BUSY_MS`.
    """

    def __init__(self) -> None:
        self._until = 0.0

    def __call__(self, looks: int) -> bool:
        """Nap and tell whether to look again; `looks`: those of this wait so far."""
        now = time.monotonic()
        if looks == 0:
            self._until = now + BUSY_MS / 1000
        time.sleep(random.uniform(*NAP_SECONDS))  # noqa: S311 - only so that naps differ
        return now < self._until


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    connection.set_busy_handler(Patience())
    cursor = connection.cursor()
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        "recursive_triggers = ON",  # else REPLACE deletes a row that may not be deleted
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A deferred BEGIN takes its write lock at the first write, after it has read: two of them
    # spend one budget twice, or fail. A writer therefore locks first.
    reads = connection.get_execution_options().get("reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


@contextmanager
def explained() -> Iterator[None]:
    """Raise what the database says in the farm's own words.

    Raises:
        BadRequest: a value is none that a database can hold.
        Contended: another transaction was there first; a second call finds its rows.
        Unavailable: the disk is full, the server is down, the file is gone.
    """
    try:
        yield
    except (DataError, UnicodeEncodeError) as error:  # a NUL, half a character, a number too long
        raise BadRequest(
            "Something in the request is neither text nor a number that the farm's database holds.",
            Say("Look for control characters and numbers without end; nothing was written."),
        ) from error
    except IntegrityError as error:
        if any(name in str(error.orig) for name in FIRST_COMES):
            raise Contended from error
        raise
    except (OperationalError, InterfaceError) as error:
        if getattr(error.orig, "sqlstate", None) in GAVE_WAY or "locked" in str(error.orig):
            raise Contended from error
        words = str(error.orig).strip().splitlines()
        raise Unavailable(
            f"The farm's database cannot be used now: {words[0] if words else 'no reason given'}.",
            LookAt(
                Listing.CHECKS,
                "Nothing of this request was written. See to its disk or its server, and send it "
                "again.",
            ),
        ) from error
