"""A farm on SQLite behind the real application, and clients with keys."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from orchestrator.farm import Farm, keys
from orchestrator.model import Account
from orchestrator.settings import Settings
from orchestrator.states import KeyKind
from orchestrator.store import open_store
from tests.factories import Clock, account_id, make_farm
from web.app import create_app

Caller = Callable[..., FlaskClient]


@pytest.fixture
def house(sqlite_url: str, clock: Clock) -> Iterator[Farm]:
    """A farm on SQLite with a clock moved by hand."""
    store = open_store(sqlite_url)
    yield make_farm(store, clock)
    store.close()


@pytest.fixture
def app(house: Farm, tmp_path: Path) -> Flask:
    """The real application; answers are checked against their models."""
    config = Settings(home=tmp_path / "home", min_free_disk_mb=1)
    return create_app(house, config, {"TESTING": True})


@pytest.fixture
def caller(app: Flask, house: Farm) -> Caller:
    """Make a client that sends a new key of a kind, for the home account or another one."""

    def make(kind: KeyKind = KeyKind.USER, account: str | None = "") -> FlaskClient:
        owner = account_id(house) if account == "" else account
        _, token = keys.create(house, account_id=owner, kind=kind, name="test")
        client = app.test_client()
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
        return client

    return make


@pytest.fixture
def api(caller: Caller) -> FlaskClient:
    """A client with a user key of the home account."""
    return caller()


@pytest.fixture
def other(caller: Caller, house: Farm) -> FlaskClient:
    """A client with a user key of another account."""
    account = Account(id="acc_other", name="other", plan="free", created_at_ms=0)
    with house.store.write() as tx:
        tx.add(account)
    return caller(account=account.id)
