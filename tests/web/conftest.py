"""A farm on SQLite behind the real application, and clients with keys."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from flask import Flask
from flask.testing import FlaskClient

from orchestrator.farm import Farm, Idempotency, jobs
from orchestrator.farm.accounts import accounts, keys, opening
from orchestrator.model import Account
from orchestrator.settings import Settings
from orchestrator.states import KeyKind
from orchestrator.store import open_store
from orchestrator.wiring import farm_from
from tests.factories import Clock, account_id, brief, make_farm
from tests.web.every_input import OpenFarm, built
from web.app import create_app

Caller = Callable[..., FlaskClient]


@pytest.fixture
def web_farm(sqlite_url: str, clock: Clock) -> Iterator[Farm]:
    """A farm on SQLite with a clock moved by hand."""
    store = open_store(sqlite_url)
    yield make_farm(store, clock)
    store.close()


@pytest.fixture
def app(web_farm: Farm, tmp_path: Path) -> Flask:
    """The real application; answers are checked against their models."""
    config = Settings(home=tmp_path / "home", min_free_disk_mb=1)
    return create_app(web_farm, config, {"TESTING": True})


@pytest.fixture(scope="module")
def open_farm(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OpenFarm]:
    """A farm on SQLite with people before its inputs, the same for all tests of a module."""
    folder = tmp_path_factory.mktemp("open_farm")
    (folder / "farm.sqlite").write_bytes(sqlite_template.read_bytes())
    yield from built(f"sqlite:///{folder / 'farm.sqlite'}", folder)


@pytest.fixture
def caller(app: Flask, web_farm: Farm) -> Caller:
    """Make a client that sends a new key of a kind, for the home account or another one."""

    def make(kind: KeyKind = KeyKind.USER, account: str | None = "") -> FlaskClient:
        owner = account_id(web_farm) if account == "" else account
        _, token = keys.create(web_farm, account_id=owner, kind=kind, name="test")
        client = app.test_client()
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
        return client

    return make


@pytest.fixture
def api(caller: Caller) -> FlaskClient:
    """A client with a user key of the home account."""
    return caller()


@pytest.fixture
def other(caller: Caller, web_farm: Farm) -> FlaskClient:
    """A client with a user key of another account."""
    account = Account(
        id="acc_other", name="other", plan="free", default_session_id="ses_none", created_at_ms=0
    )
    with web_farm.store.write() as tx:
        tx.add(account)
    return caller(account=account.id)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, str, str]]:
    """A real web process; yields its URL, a key and a job's id. Its log is `web.log`."""
    home = tmp_path / "home"
    farm = farm_from(Settings(home=home, fake_model=True))
    opening.open_home(farm)
    owner = accounts.first(farm).id
    _, token = keys.create(farm, account_id=owner, kind=KeyKind.USER, name="t")
    promise = Idempotency(key="k", body_sha256="0" * 64)
    asked = brief(model="fake")
    job = jobs.submit(farm, account_id=owner, session_id=None, brief=asked, idempotency=promise).job
    farm.store.close()  # type: ignore[attr-defined]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    argv = [sys.executable, "-m", "gunicorn", "web.app:create_app()"]
    argv += ["--config", "python:web.serving", "--bind", f"127.0.0.1:{port}"]
    argv += ["--graceful-timeout", "2"]
    env = dict(os.environ) | {"FARM_HOME": str(home), "FARM_FAKE_MODEL": "1"}  # noqa: TID251 - a child's
    with (tmp_path / "web.log").open("wb") as log:
        server = subprocess.Popen(argv, env=env, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: httpx.get(f"{url}/healthz").is_success)
        yield url, token, job.id
    finally:
        print((tmp_path / "web.log").read_text(errors="replace"))
        server.terminate()
        assert server.wait(20) == 0


def signed_in(farm: Farm) -> FlaskClient:
    """Return a browser that came by a fresh one-time link of the home account."""
    browser = create_app(farm, Settings(), {"TESTING": True}).test_client()
    owner = account_id(farm)
    token = opening.replace_key(farm, account_id=owner, kind=KeyKind.SIGNIN, name="link")
    assert browser.get(f"/sign-in/{token}").status_code == 303
    return browser


def until(ready: object, seconds: float = 60) -> None:
    """Wait for something to come about."""
    assert callable(ready)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if ready():
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("it did not come about")
