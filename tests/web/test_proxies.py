"""Behind proxies: whose address counts, and what a client cannot claim of itself."""

import re
from pathlib import Path

import httpx
import pytest
from flask import Flask
from flask.testing import FlaskClient

from orchestrator.farm import Farm
from orchestrator.farm.accounts import keys
from orchestrator.settings import Settings
from orchestrator.states import KeyKind
from tests.factories import account_id, submit
from web.app import create_app

CLAIMED = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "farm.example.com",
}


def built(web_farm: Farm, home: Path, **settings: object) -> Flask:
    """Return the application with these settings."""
    config = Settings.model_validate({"home": home, "min_free_disk_mb": 1, **settings})
    return create_app(web_farm, config, {"TESTING": True})


def admin(app: Flask, web_farm: Farm) -> FlaskClient:
    """Return an operator's client."""
    _, token = keys.create(web_farm, account_id=account_id(web_farm), kind=KeyKind.ADMIN, name="a")
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    return client


@pytest.mark.parametrize(
    ("proxies", "forwarded", "source"),
    [
        (0, "203.0.113.9", "127.0.0.1"),
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "198.51.100.1, 203.0.113.9", "203.0.113.9"),
        (2, "198.51.100.1, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        (2, "203.0.113.9", "127.0.0.1"),
    ],
)
def test_the_audit_log_has_the_address_the_proxies_saw(
    web_farm: Farm, tmp_path: Path, proxies: int, forwarded: str, source: str
) -> None:
    """Counted from the farm's side: what a client claims stands further left."""
    client = admin(built(web_farm, tmp_path, trusted_proxies=proxies), web_farm)
    headers = {"X-Forwarded-For": forwarded}
    assert client.put("/api/v1/freeze", json={"frozen": False}, headers=headers).status_code == 200
    assert client.get("/api/v1/audit").get_json()["data"][0]["source"] == source


@pytest.mark.parametrize(
    ("proxies", "begins"), [(0, "https://other.example.com/"), (1, "https://farm.example.com/")]
)
def test_links_lead_where_the_operator_says(
    web_farm: Farm, tmp_path: Path, proxies: int, begins: str
) -> None:
    """A download link begins with the public URL that the proxy was asked by, or the first."""
    public = "https://other.example.com, https://farm.example.com"
    settings = {"trusted_proxies": proxies, "public_url": public}
    client = admin(built(web_farm, tmp_path, **settings), web_farm)
    path = f"/api/v1/jobs/{submit(web_farm).id}/links"
    assert client.post(path, json={}, headers=CLAIMED).get_json()["url"].startswith(begins)


@pytest.mark.parametrize(("proxies", "refused"), [(0, 429), (1, 401)])
def test_tries_to_sign_in_count_for_the_clients_address(
    web_farm: Farm, tmp_path: Path, proxies: int, refused: int
) -> None:
    """One client's guesses do not lock out those behind the same proxy, and it cannot lie."""
    app = built(web_farm, tmp_path, trusted_proxies=proxies, sign_in_limit="2/day")
    app.config["WTF_CSRF_ENABLED"] = False
    tries = [
        app.test_client().post(
            "/sign-in",
            data={"name": "x", "password": "y"},
            headers={"X-Forwarded-For": f"198.51.100.7, 203.0.113.{number}"},
        )
        for number in range(3)
    ]
    assert [each.status_code for each in tries] == [401, 401, refused]


@pytest.mark.parametrize(("proxies", "secure"), [(0, False), (1, True)])
def test_a_cookie_of_https_is_kept_from_http(
    web_farm: Farm, tmp_path: Path, proxies: int, secure: bool
) -> None:
    """The switch follows the scheme that a trusted proxy tells; a client's word changes nothing."""
    settings = {"trusted_proxies": proxies, "public_url": "https://farm.example.com"}
    client = built(web_farm, tmp_path, **settings).test_client()
    answer = client.get("/sign-in", headers=CLAIMED)
    assert ("Secure" in answer.headers["Set-Cookie"]) is secure


def test_a_form_is_taken_over_https_behind_a_proxy(web_farm: Farm, tmp_path: Path) -> None:
    """The page's own token and address go through; another site's address does not."""
    public = "https://farm.example.com"
    client = built(web_farm, tmp_path, trusted_proxies=1, public_url=public).test_client()
    base = "http://farm.example.com"
    page = client.get("/sign-in", headers=CLAIMED, base_url=base).text
    found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
    assert found
    form = {"csrf_token": found[1], "token": "farm_user_x_y"}
    for referer, status in (("https://farm.example.com/sign-in", 401), ("https://evil.test/", 400)):
        headers = {**CLAIMED, "Referer": referer}
        answer = client.post("/sign-in", data=form, headers=headers, base_url=base)
        assert answer.status_code == status


def test_the_server_before_the_farm_believes_no_header_either(
    served: tuple[str, str, str],
) -> None:
    """A real web process, asked from its own host: a forwarded scheme is not taken."""
    url, token, job_id = served
    headers = {**CLAIMED, "Authorization": f"Bearer {token}"}
    link = httpx.post(f"{url}/api/v1/jobs/{job_id}/links", json={}, headers=headers).json()
    assert link["url"].startswith(url)
