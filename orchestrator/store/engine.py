"""Opening SQLite and Postgres so that neither loses or bends a transaction."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pysqlite3.dbapi2 as sqlite
from sqlalchemy import URL, Engine, NullPool, create_engine, event, make_url
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError, IntegrityError, InterfaceError, OperationalError

from orchestrator.errors import BadRequest, Contended, Unavailable
from orchestrator.remedies import Listing, LookAt, Say

BUSY_MS = 10_000
"""Time that a writer waits for another one before it gives up."""

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
    # A connection of its own per transaction: 0.2 ms, and none is shared by the native
    # threads that the web process runs its transactions in.
    return as_ours(create_engine(parsed, module=sqlite, poolclass=NullPool))


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


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout = {BUSY_MS}",
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
