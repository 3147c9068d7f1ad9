"""Things the web process never does: guessable secrets, foreign assets, a broker or a device."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydantic import ValidationError

from orchestrator.errors import BadRequest
from orchestrator.farm import Farm
from orchestrator.farm.accounts import keys
from orchestrator.settings import Settings
from orchestrator.wire import STRIP
from web.app import create_app, secret_key

LOADED = """
import sys
from web.app import create_app
app = create_app()
client = app.test_client()
for path in ("/healthz", "/metrics", "/sign-in", "/openapi/openapi.json", "/api/v1/jobs"):
    client.get(path)
heavy = {"celery", "kombu", "redis", "valkey", "torch", "diffusers", "transformers", "av"}
print(*sorted(heavy & {name.partition(".")[0] for name in sys.modules}))
"""


def test_the_web_process_loads_no_broker_and_no_model() -> None:
    """A started application that answered requests has imported neither Celery, Redis nor torch."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    "secret",
    [
        *("change-me", "hunter2", "0" * 64, "abab" * 20, "x" * 31),
        *("changeme-changeme-changeme-changeme", "this is my Secret key for the farm's web"),
        "0123456789abcdef" * 4,
    ],
)
def test_a_guessable_secret_starts_nothing(web_farm: Farm, secret: str) -> None:
    """Short or repetitive secrets, and examples', are refused, with how to make a good one."""
    with pytest.raises(
        ValidationError, match="FARM_SECRET_KEY can be guessed; make one with"
    ) as refused:
        Settings.model_validate({"secret_key": secret})
    assert secret not in str(refused.value)
    with pytest.raises(BadRequest, match="FARM_JOIN_TOKEN can be guessed"):
        keys.admit(web_farm, secret, name="FARM_JOIN_TOKEN")


def test_processes_that_start_together_share_one_key(tmp_path: Path) -> None:
    """Whoever makes the home's secret key first has made it for all; nobody else reads it."""
    config = Settings(home=tmp_path)
    with ThreadPoolExecutor(8) as people:
        found = set(people.map(secret_key, [config] * 40))
    assert len(found) == 1
    assert (tmp_path / "secret_key").stat().st_mode & 0o077 == 0
    assert [file.name for file in tmp_path.iterdir()] == ["secret_key"]


@pytest.mark.parametrize("secure", [False, True])
def test_cookies_are_closed_to_scripts_and_other_sites(
    web_farm: Farm, tmp_path: Path, secure: bool
) -> None:
    """A cookie is HttpOnly and SameSite, and Secure where the operator has TLS."""
    app = create_app(web_farm, Settings(home=tmp_path / "home", secure_cookies=secure))
    cookie = app.test_client().get("/sign-in").headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert ("Secure" in cookie) is secure


def test_no_page_loads_anything_from_elsewhere(app: Flask) -> None:
    """The sign-in page and the API's description name assets of this farm alone."""
    client = app.test_client()
    for path in ("/sign-in", "/openapi/", "/openapi/swagger"):
        answer = client.get(path, follow_redirects=True)
        assert answer.status_code == 200, path
        loads = re.findall(
            r"""(?:src|href|url)\s*[=:(]\s*["']?(https?:)?//([^"'\s)]+)""", answer.text
        )
        assert not loads, (path, loads)


def test_a_form_of_many_parts_is_refused(api: FlaskClient) -> None:
    """More fields than any form of ours has, or a field of megabytes, is a 413."""
    part = '--b\r\nContent-Disposition: form-data; name="f%d"\r\n\r\n%s\r\n'
    many = "".join(part % (number, "x") for number in range(200))
    large = part % (1, "x" * (2 << 20))
    for body in (many, large):
        kind = "multipart/form-data; boundary=b"
        answer = api.post("/api/v1/jobs", data=f"{body}--b--\r\n", content_type=kind)
        assert answer.status_code == 413
        assert answer.get_json()["next"]


@pytest.mark.parametrize(
    "path",
    [
        *("/sign-in", "/", "/nowhere", "/static/farm.css", "/static/nowhere", "/healthz"),
        *("/openapi/", "/openapi/nowhere", "/api/v1/jobs", "/api/v1/nowhere", "/v1/videos"),
        *("/v1/nowhere", "/worker/v1/claim", "/metrics"),
    ],
)
def test_every_answer_is_hardened(app: Flask, path: str) -> None:
    """A strict policy, no sniffing, no frames and no shared cache: errors and files too."""
    answer = app.test_client().get(path)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Frame-Options"] == "DENY"
    cached = answer.headers["Cache-Control"]
    assert cached == "private, no-store" or path == "/static/farm.css"
    answer.close()


def test_no_shared_cache_keeps_a_file(app: Flask) -> None:
    """Frames that a browser may keep for a day are that browser's alone."""
    key = f"units/unt_1/1/{STRIP}"
    files = app.extensions["artifacts"]
    files.put(key, [b"strip"], sha256=sha256(b"strip").hexdigest(), max_bytes=9)
    for max_age in (None, 0, 86_400):
        with app.test_request_context():
            answer = files.send(key, mimetype="image/jpeg", max_age=max_age)
        assert "private" in answer.headers["Cache-Control"]
        assert "public" not in answer.headers["Cache-Control"]
        answer.close()
