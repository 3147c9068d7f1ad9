"""Names that `Host` may say: nobody's word is believed about where the farm is."""

import socket
from itertools import product
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydantic import ValidationError

from orchestrator.farm import Farm
from orchestrator.settings import Settings
from tests.factories import submit
from tests.web.test_proxies import admin, built

PATHS = ("/healthz", "/sign-in", "/", "/api/v1/jobs", "/v1/videos", "/worker/v1/claim", "/nowhere")
HERE = (
    "localhost",
    "LOCALHOST:8080",
    "farm.localhost",
    "127.0.0.1:8080",
    "127.3.2.1",
    "[::1]:80",
    socket.gethostname(),
)
STRANGE = (
    "192.168.1.20:8080",
    "10.66.66.66",
    "172.17.0.2:80",
    "[fd00::7]",
    "100.64.0.9",
    "169.254.169.254",
    "0.0.0.0",
    "0.0.0.0:8080",
    "[::]",
    "[fe80::1]",
    "evil.localhost:99999",
    "localhost:65536",
    "localhost:0",
    "localhost:",
    "evil..localhost",
    ".localhost",
    "-.localhost",
    "evil.example",
    "evil.example:8080",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "8.8.8.8",
    "[2606:4700::1111]",
    "192.168.1.20.nip.io",
    "farm.example.com.evil.example",
    "evil.example@localhost",
    "localhost, evil.example",
    "localhost:99999999",
    "127.1",
    "0x7f000001",
    "[",
    "",
)


def asked(app: Flask, host: str, path: str) -> int:
    """Return the status of a request by this name."""
    return app.test_client().get(path, environ_overrides={"HTTP_HOST": host}).status_code


@pytest.mark.parametrize("path", PATHS)
def test_a_newcomer_is_answered_by_what_is_here(web_farm: Farm, tmp_path: Path, path: str) -> None:
    """Without a public URL: this machine's names, and no address that is not its own."""
    app = built(web_farm, tmp_path, host="0.0.0.0")
    usual = asked(app, "localhost", path)
    assert {asked(app, host, path) for host in HERE} == {usual}
    assert {asked(app, host, path) for host in STRANGE} == {400}


def test_a_public_url_is_the_farms_only_other_name(web_farm: Farm, tmp_path: Path) -> None:
    """With one: its names, whatever the port and the case, and this machine's; no other address."""
    public = "https://farm.example.com, http://web:8080/"
    app = built(web_farm, tmp_path, public_url=public)
    for host in (
        "farm.example.com",
        "FARM.example.com:443",
        "farm.example.com.",
        "web:8080",
        *HERE,
    ):
        assert asked(app, host, "/healthz") == 200, host
    for host in STRANGE:
        assert asked(app, host, "/healthz") == 400, host


def test_the_address_that_was_bound_is_known(web_farm: Farm, tmp_path: Path) -> None:
    """FARM_HOST may be a public address, or a name."""
    for host in ("203.0.113.7", "render.example.net"):
        app = built(web_farm, tmp_path, host=host, public_url="https://farm.example.com")
        assert asked(app, f"{host}:8080", "/healthz") == 200


def test_the_address_that_a_connection_came_in_at_is_known(web_farm: Farm, tmp_path: Path) -> None:
    """Whatever its kind: it is this machine's, and a probe or a worker may ask by it."""
    public = built(web_farm, tmp_path, public_url="https://farm.example.com").extensions["hosts"]
    unset = built(web_farm, tmp_path).extensions["hosts"]
    for hosts, (host, local) in product(
        (public, unset),
        (
            ("10.0.0.5:8080", "10.0.0.5"),
            ("10.0.0.5:8080", "::ffff:10.0.0.5"),
            ("203.0.113.7", "203.0.113.7"),
            ("[2001:db8::7]:80", "2001:db8:0:0:0:0:0:7"),
        ),
    ):
        assert hosts.knows(host, local)
        assert not hosts.knows(host, "10.9.9.9")
        assert not hosts.knows(host, "")


def test_the_refusal_says_what_to_do(api: FlaskClient) -> None:
    """A problem with a code and the setting, and nothing of the name that was sent."""
    answer = api.get("/api/v1/jobs", headers={"Host": "evil.example"})
    told = answer.get_json()
    assert (answer.status_code, told["code"]) == (400, "unknown_host")
    assert "FARM_PUBLIC_URL" in told["next"]["text"]
    assert "evil" not in answer.text
    page = api.get("/sign-in", headers={"Host": "evil.example"})
    assert "FARM_PUBLIC_URL" in page.text
    assert "evil" not in page.text


@pytest.mark.parametrize(
    ("host", "begins"),
    [
        ("farm.example.com", "https://farm.example.com/"),
        ("localhost:65535", "https://farm.example.com/"),
        ("web:8080", "http://web:8080/"),
        ("localhost:5000", "https://farm.example.com/"),
        ("farm.example.com:9999", "https://farm.example.com/"),
    ],
)
def test_links_begin_with_a_public_url(
    web_farm: Farm, tmp_path: Path, host: str, begins: str
) -> None:
    """The one that was asked by, or the first; never with what `Host` says beside them."""
    app = built(web_farm, tmp_path, public_url="https://farm.example.com/, http://web:8080")
    client = admin(app, web_farm)
    path = f"/api/v1/jobs/{submit(web_farm).id}/links"
    assert client.post(path, json={}, headers={"Host": host}).get_json()["url"].startswith(begins)


@pytest.mark.parametrize(
    "url",
    ["farm.example.com", "ftp://a", "https://", "https://a/b", "https://a?b", "https://u@a", "x,",
     "https://a:99999", "https://a#b"],
)  # fmt: skip
def test_a_public_url_that_is_none_is_refused(url: str) -> None:
    """Each is a scheme, a host and perhaps a port."""
    with pytest.raises(ValidationError):
        Settings(public_url=url)
