"""A real farm is shown every kind of secret; none is found in what it writes for people to read."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.conftest import Cli
from tests.web.conftest import until

PASSWORD = "planted-password-of-ada"
COOKIE_KEY = "planted0123456789abcdef0123456789abcdef"
HOOK = "https://hooks.invalid/planted-in-a-path?token=planted-in-a-path"
HELLO: dict[str, Any] = {
    "name": "w", "host": "h", "device": "cpu", "device_class": "cpu", "memory_mb": 1,
    "kinds": ["parse"], "models": [], "fingerprint": "f", "polls": True,
}  # fmt: skip
GUESS = "farm_admin_planted_0123456789abcdef0123456789abcdef01234567"


@pytest.mark.slow(15)
def test_no_secret_is_in_any_log(cli: Cli, farm_up: Callable[..., dict[str, Any]]) -> None:
    """Keys, passwords, links, tokens, the broker's, cookies' and webhooks' secrets stay out."""
    cli.env |= {"FARM_LOG_LEVEL": "debug", "FARM_SECRET_KEY": COOKIE_KEY}
    told = farm_up("--workers", "1")
    shown = [told["admin_key"], told["sign_in_url"].rpartition("/")[2]]
    with httpx.Client(base_url=told["url"], timeout=60) as client:
        shown += _used(client, told)
    done = cli("render", "a cat sleeps", "--seconds", "1", "--model", "fake", timeout=240)
    assert done.returncode == 0, done.stderr
    run = cli.home / "run"
    kept = [(run / name).read_text().strip() for name in ("join_token", "broker_url")]
    planted = [*shown, *kept, re.findall(r":([0-9a-f]{20,})@", kept[1])[0]]
    planted += [PASSWORD, COOKIE_KEY, GUESS]
    logs = _logs(cli.home)
    assert len(logs) >= 4, "web, dispatcher, worker and broker write logs"
    for file, text in logs.items():
        for secret in planted:
            assert secret not in text, (file, secret[:12])
        assert not re.search(r"farm_(admin|user|worker|join|signin)_\w+_[0-9a-f]{40}", text), file


def _used(client: httpx.Client, told: dict[str, Any]) -> list[str]:
    """Use every kind of secret, rightly and wrongly; return those the farm made."""
    admin = {"Authorization": f"Bearer {told['admin_key']}"}
    made = client.post("/api/v1/keys", json={"name": "k"}, headers=admin).json()["token"]
    person = {"name": "ada", "password": PASSWORD}
    assert client.post("/api/v1/people", json=person, headers=admin).status_code == 201
    assert client.post("/api/v1/people", json=person, headers=admin).status_code == 409
    short = {"name": "bob", "password": "x"}
    assert client.post("/api/v1/people", json=short, headers=admin).status_code == 422
    for token in (GUESS, f"{made}x"):
        wrong = {"Authorization": f"Bearer {token}"}
        assert client.get("/api/v1/jobs", headers=wrong).status_code == 401
        assert client.post("/worker/v1/claim", json={}, headers=wrong).status_code == 401
        assert client.get(f"/sign-in/{token}").status_code == 401
    assert client.get(told["sign_in_url"]).status_code == 303
    assert client.post("/sign-in", data={"token": made, "password": PASSWORD}).status_code == 400
    webhook = client.post("/api/v1/webhooks", json={"url": HOOK}, headers=admin).json()
    assert client.post(f"/api/v1/webhooks/{webhook['id']}/test", headers=admin).status_code == 202
    turned = client.post(f"/api/v1/webhooks/{webhook['id']}/rotate", headers=admin).json()
    join = {"name": "j", "kind": "join", "device_classes": ["cpu"]}
    join = client.post("/api/v1/keys", json=join, headers=admin).json()
    enrolled = client.post(
        "/worker/v1/hello", json=HELLO, headers={"Authorization": f"Bearer {join['token']}"}
    ).json()["worker_key"]
    until(
        lambda: client.get(f"/api/v1/webhooks/{webhook['id']}/deliveries", headers=admin).json()[
            "data"
        ][0]["tries"]
    )
    return [made, webhook["secret"], turned["secret"], join["token"], enrolled, "planted-in-a-path"]


def _logs(home: Path) -> dict[str, str]:
    files = [file for file in home.rglob("*.log") if file.is_file()]
    return {str(file.relative_to(home)): file.read_text(errors="replace") for file in files}
