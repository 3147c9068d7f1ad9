"""A farm that is made up, and an agent that works for it."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from orchestrator.catalog import FAKE, Catalog
from tests.workers.fake_farm import KEY, FakeFarm, serving
from workers import devices
from workers.agent import Agent
from workers.child import Child, Setup
from workers.client import Client


@pytest.fixture
def farm(request: pytest.FixtureRequest) -> Iterator[FakeFarm]:
    """A farm with short leases, or of so many seconds as a test says."""
    seconds = getattr(request, "param", 3.0)
    with serving(FakeFarm(lease_seconds=seconds)) as farm:
        yield farm


@pytest.fixture
def agent(farm: FakeFarm, tmp_path: Path) -> Iterator[Agent]:
    """An agent with its child, which are gone afterwards, with all they started."""
    yield from _agent(farm, tmp_path / "worker", None)


@pytest.fixture
def warm_agent(farm: FakeFarm, tmp_path: Path) -> Iterator[Agent]:
    """An agent whose child takes the fake model up before its first order."""
    yield from _agent(farm, tmp_path / "worker", FAKE.id)


def _agent(farm: FakeFarm, home: Path, warm: str | None) -> Iterator[Agent]:
    client = Client(farm.url, KEY, read_seconds=1)
    cards = Catalog({FAKE.id: FAKE})
    child = Child(Setup(device=devices.discover("cpu"), threads=1, catalog=cards, warm=warm))
    with Agent(client, child, home, farm.terms(), grace_seconds=0.5) as agent:
        yield agent
    client.close()
    engines = [p for p in psutil.Process().children() if "multiprocessing.spawn" in _argv(p)]
    assert engines == []
    assert not (home / "scratch").exists()


def _argv(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
