"""/metrics: for whom it is, and how little many askers cost."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydantic import ValidationError
from sqlalchemy import event

from orchestrator.farm import Farm
from orchestrator.farm.accounts import keys
from orchestrator.settings import Settings
from orchestrator.states import KeyKind
from tests.factories import account_id, submit
from web.api import health
from web.app import create_app

TOKEN: Final = "9f2c7a1e4b8d6053c1a7e9d2f4b6083a"
Open = Callable[..., FlaskClient]


@pytest.fixture
def opened(web_farm: Farm, tmp_path: Path) -> Open:
    """Make a client of a farm with these settings."""

    def make(**set_to: Any) -> FlaskClient:
        config = Settings(home=tmp_path / "home", min_free_disk_mb=1, **set_to)
        return create_app(web_farm, config, {"TESTING": True}).test_client()

    return make


def asked(client: FlaskClient, address: str, **headers: str) -> int:
    """Return the status for a request from an address."""
    return client.get(
        "/metrics", environ_base={"REMOTE_ADDR": address}, headers=headers
    ).status_code


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_this_machine_needs_no_key(opened: Open, address: str) -> None:
    """Requests from the farm's own machine are answered where nothing is set."""
    assert asked(opened(), address) == 200


@pytest.mark.parametrize("address", ["10.0.0.5", "192.0.2.7", "2001:db8::1", "fe80::1%eth0", ""])
def test_another_machine_is_told_what_opens_them(opened: Open, address: str) -> None:
    """It is a 401 with a sentence, and names what the operator can set."""
    answer = opened().get("/metrics", environ_base={"REMOTE_ADDR": address})
    assert answer.status_code == 401
    told = answer.get_json()
    assert told["detail"] == "The metrics are not open to this address."
    assert "FARM_METRICS_TOKEN" in told["also"][0]["text"]
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_networks_may_be_named_and_none_at_all(opened: Open) -> None:
    """FARM_METRICS_FROM takes the place of the machine's own addresses."""
    lan = opened(metrics_from="10.1.0.0/16, 2001:db8::/32")
    assert asked(lan, "10.1.2.3") == asked(lan, "2001:db8::9") == 200
    assert asked(lan, "10.2.0.1") == asked(lan, "127.0.0.1") == 401
    assert asked(opened(metrics_from=""), "127.0.0.1") == 401
    with pytest.raises(ValidationError):
        Settings(metrics_from="10.1.0.0/16, the office")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "10.1.2.3"])
def test_a_token_closes_this_machine_too(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """A proxy that adds no header looks like this machine; only networks that are named are let in.

    The token may come from a file or the environment, and so may the networks.
    """
    file = tmp_path / "token"
    file.write_text(TOKEN)
    for client in (opened(metrics_token=TOKEN), opened(metrics_token_file=file)):
        assert asked(client, address) == 401
        assert asked(client, address, Authorization=f"Bearer {TOKEN}") == 200
    monkeypatch.setenv("FARM_METRICS_TOKEN", TOKEN)
    assert asked(opened(), address) == 401
    monkeypatch.setenv("FARM_METRICS_FROM", "127.0.0.0/8, ::1/128, 10.1.0.0/16")
    assert asked(opened(), address) == 200


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"])
def test_what_a_proxy_passed_on_did_not_come_from_here(opened: Open, header: str) -> None:
    """A proxy on this machine makes nobody of the world a neighbour."""
    assert asked(opened(), "127.0.0.1", **{header: "127.0.0.1"}) == 401


def test_a_trusted_proxy_says_who_asks(opened: Open) -> None:
    """With FARM_TRUSTED_PROXIES it is the client's address that counts, and not what it claims."""
    behind = opened(trusted_proxies=1)
    assert asked(behind, "127.0.0.1", **{"X-Forwarded-For": "203.0.113.9"}) == 401
    assert asked(behind, "127.0.0.1", **{"X-Forwarded-For": "127.0.0.1, 203.0.113.9"}) == 401
    assert asked(behind, "10.0.0.2", **{"X-Forwarded-For": "127.0.0.1"}) == 200


def test_a_token_or_an_admin_key_opens_them(opened: Open, web_farm: Farm) -> None:
    """From anywhere; another account's key is a 403, anything else a 401."""
    client, far = opened(metrics_token=TOKEN), "192.0.2.7"
    mine = account_id(web_farm)
    of = {
        kind: keys.create(web_farm, account_id=mine, kind=kind, name="k")[1]
        for kind in (KeyKind.ADMIN, KeyKind.USER, KeyKind.READ)
    }
    shown = {
        TOKEN: 200,
        of[KeyKind.ADMIN]: 200,
        of[KeyKind.USER]: 403,
        of[KeyKind.READ]: 403,
        TOKEN[:-1]: 401,
        "é": 401,
        "": 401,
    }
    for token, status in shown.items():
        assert asked(client, far, Authorization=f"Bearer {token}") == status, token
    assert asked(client, far, Authorization=f"Basic {TOKEN}") == 401
    assert asked(opened(), far, Authorization="Bearer ") == 401
    for path in ("/api/v1/queues", "/api/v1/jobs"):
        refused = client.get(path, headers={"Authorization": f"Bearer {TOKEN}"})
        assert refused.status_code == 401, "it opens nothing else"


def test_a_token_that_can_be_guessed_is_refused(tmp_path: Path) -> None:
    """FARM_METRICS_TOKEN is as long as other secrets; it may stand in a file."""
    with pytest.raises(ValidationError, match="FARM_METRICS_TOKEN can be guessed"):
        Settings(metrics_token="prometheus")
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert Settings(metrics_token_file=file).metrics_token.get_secret_value() == TOKEN


def test_many_askers_are_one_look(
    app: Flask, web_farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a hundred requests one asks the database; the next look is two seconds later."""
    submit(web_farm)
    sent: list[str] = []
    engine: Any = web_farm.store.engine  # type: ignore[attr-defined]  # the real one has it
    event.listen(engine, "before_cursor_execute", lambda *told: sent.append(told[2]))
    client = app.test_client()
    now = [100.0]
    monkeypatch.setattr(health.time, "monotonic", lambda: now[0])
    first = client.get("/metrics")
    assert 'framefarm_ready{queue="parse"} 1' in first.text
    looked = len(sent)
    assert looked > 0
    submit(web_farm)
    sent.clear()
    for _ in range(99):
        assert client.get("/metrics").text == first.text
    assert sent == []
    now[0] += health.METRICS_SECONDS
    assert 'framefarm_ready{queue="parse"} 2' in client.get("/metrics").text
    assert len(sent) == looked


def test_who_asks_too_often_is_slowed(opened: Open) -> None:
    """Metrics count as any request; a token that is guessed at does, too. Health does not."""
    client = opened(rate_limit="5/hour")
    found = [asked(client, "127.0.0.1") for _ in range(6)]
    assert found == [200] * 5 + [429]
    guesses = [asked(client, "192.0.2.7", Authorization=f"Bearer {n}") for n in range(6)]
    assert guesses == [401] * 5 + [429]
    assert {client.get("/healthz").status_code for _ in range(9)} == {200}
