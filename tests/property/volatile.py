"""A real SQLite in memory, which can be made anew and whose commits can be made to fail."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pysqlite3.dbapi2 as sqlite
from sqlalchemy import StaticPool, create_engine

from orchestrator.errors import Unavailable
from orchestrator.store import Store
from orchestrator.store.engine import as_ours
from orchestrator.store.transaction import Transaction


class Volatile(Store):
    """The farm's store over one connection to memory: no file is written, nothing is synced."""

    def __init__(self, template: Path) -> None:
        self.raw = sqlite.connect(":memory:", check_same_thread=False)
        self._template = sqlite.connect(str(template))
        self.fails = False
        engine = create_engine(
            "sqlite://", module=sqlite, creator=lambda: self.raw, poolclass=StaticPool
        )
        super().__init__(as_ours(engine))

    def renew(self) -> None:
        """Make it as empty as the template."""
        self._template.backup(self.raw)
        self.fails = False

    @property
    def changes(self) -> int:
        """The number of rows ever written: while it stays, no table says anything new."""
        found: int = self.raw.total_changes
        return found

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Open a transaction; once `fails` is set, the next one ends without a commit."""
        with super().write() as tx:
            yield tx
            if self.fails:
                self.fails = False
                raise Unavailable("The disk is full, says the simulation.")


@cache
def volatile(template: Path) -> Volatile:
    """Return the one store that a process makes out of a template and renews for each history."""
    return Volatile(template)
