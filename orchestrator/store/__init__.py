"""The truth: SQL behind transactions that speak in the nouns of `orchestrator.model`."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Final

from sqlalchemy import Engine, inspect, text

from orchestrator.store.engine import explained, make_engine
from orchestrator.store.transaction import Transaction

HEAD: Final = "0001"
"""The newest migration."""


class Store:
    """One database. Every method of the farm is one `read()` or one `write()`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.one_writer = engine.dialect.name == "sqlite"
        self._turn: AbstractContextManager[object] = nullcontext()
        # When its last connection closes, SQLite folds its log into the file, which takes
        # longer than a transaction. This one stays open, so that none of ours is the last.
        self._anchor = engine.connect() if self.one_writer else None

    def write_in_turn(self, lock: AbstractContextManager[object]) -> None:
        """Have the threads of this process write one after the other, without SQLite's back-off.

        The lock is the caller's, who knows what its threads are.
        """
        self._turn = lock

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """Open a transaction that only looks; it sees one moment."""
        with explained(), self.engine.connect().execution_options(reads=True) as connection:
            if connection.dialect.name == "postgresql":
                connection.execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
            with connection.begin():
                yield Transaction(connection)

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Open a transaction that commits at the end, or leaves no trace.

        Raises:
            Contended: it met another one; the whole verb may be called again.
            Unavailable: the database cannot be used now (its disk is full, it is down).
        """
        with self._turn, explained(), self.engine.begin() as connection:
            yield Transaction(connection)

    def close(self) -> None:
        """Give the connections back."""
        if self._anchor is not None:
            self._anchor.close()
        self.engine.dispose()


def open_store(url: str) -> Store:
    """Open the database of a farm; `migrate` has made or upgraded it before."""
    return Store(make_engine(url))


def migrate(url: str) -> None:
    """Bring the database to this version's tables. Safe to call at every start."""
    if is_current(url):
        return
    from alembic import command  # half a second to import, needed once per version
    from alembic.config import Config

    config = Config()
    scripts = str(Path(__file__).parent / "migrations")
    config.set_main_option("script_location", scripts.replace("%", "%%"))  # it interpolates
    engine = make_engine(url)
    try:
        with engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(4607182418800017408)")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()


def is_current(url: str) -> bool:
    """Tell whether a database has this version's tables; nothing is changed."""
    engine = make_engine(url)
    try:
        with explained(), engine.connect().execution_options(reads=True) as connection:
            if not inspect(connection).has_table("alembic_version"):
                return False
            found = connection.scalar(text("SELECT version_num FROM alembic_version"))
            return bool(found == HEAD)
    finally:
        engine.dispose()
