"""Fixtures of every test: a farm on SQLite and on a real Postgres, with a clock of its own."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import workers  # noqa: F401 - before any test imports torch, it says how threads wait
from orchestrator.farm import Farm
from orchestrator.farm.kernel import ids
from orchestrator.store import Store, migrate, open_store
from tests import depth
from tests.factories import Clock, make_farm
from tests.lanes import Shared
from tests.postgres import TEMPLATE, Postgres, sql


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take `--quick` and `--deep`."""
    group = parser.getgroup("framefarm")
    for name, told in (("quick", "a part of each suite"), ("deep", "all of it, for long")):
        option = {"const": name, "default": depth.USUAL.name, "help": told}
        group.addoption(f"--{name}", action="store_const", dest="depth", **option)


def pytest_configure(config: pytest.Config) -> None:
    """Let hypothesis try as many examples as the run is deep, however busy the machine is."""
    chosen = depth.of(config)
    deep = chosen is depth.DEEP
    settings.register_profile(
        "framefarm",
        max_examples=chosen.examples,
        deadline=None,
        derandomize=not deep,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("framefarm")


def pytest_report_header(config: pytest.Config) -> str:
    """Tell how deep the run is, and which histories it tries."""
    seeds = depth.seeds(config)
    again = f"SIMULATION_FIRST={seeds.start} SIMULATION_SEEDS={len(seeds)}"
    return f"depth: {depth.of(config).name}; histories of this commit: {again}"


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
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Shared:
    """A folder of all lanes; one alone has its own."""
    base = tmp_path_factory.getbasetemp()
    return Shared(base if worker_id == "master" else base.parent)


@pytest.fixture(scope="session")
def postgres_server(testrun_uid: str, shared: Shared) -> Iterator[str]:
    """A real PostgreSQL with a migrated database to copy, the same in every lane; its URL."""
    server = Postgres(testrun_uid, shared)
    yield server.enter()
    server.leave()


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
    sql(postgres_server, f'CREATE DATABASE "{name}" TEMPLATE "{TEMPLATE}"')
    yield postgres_server.replace("@/postgres", f"@/{name}")
    sql(postgres_server, f'DROP DATABASE "{name}" WITH (FORCE)')


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
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that stands still until the test moves it; ids begin anew with it."""
    monkeypatch.setattr(ids, "_last", 0)  # they never go back, and no test is another's past
    return Clock()


@pytest.fixture
def farm(store: Store, clock: Clock) -> Farm:
    """An opened farm with the fake model, an account and a session `default` of 3,600 s."""
    return make_farm(store, clock)


@pytest.hookimpl(tryfirst=True)  # xdist reads the names of shared lanes after this
def pytest_collection_modifyitems(config: pytest.Config, items: list[Any]) -> None:
    """Run the longest tests first, so that no lane is left with one of them at the end."""
    if depth.of(config) is depth.QUICK:
        left_out = [item for item in items if not depth.is_quick(item)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if depth.is_quick(item)]
    items.sort(key=depth.seconds, reverse=True)
    for item in items:
        if name := depth.lane(item):
            item.add_marker(pytest.mark.xdist_group(name))
