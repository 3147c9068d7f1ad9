"""Limits of what one account may ask, and of what one job and one account may want."""

from pathlib import Path

import pytest
from flask import Flask
from pydantic import ValidationError

from orchestrator.errors import BadRequest
from orchestrator.farm import Farm, jobs
from orchestrator.farm.accounts import keys
from orchestrator.model import Account
from orchestrator.settings import Settings
from orchestrator.states import KeyKind
from orchestrator.store import open_store
from tests.factories import Clock, account_id, brief, make_farm, submit
from web.app import create_app


@pytest.fixture
def strict(web_farm: Farm, tmp_path: Path) -> Flask:
    """An application that answers five requests an account and two tries to sign in an hour."""
    config = Settings(home=tmp_path / "home", rate_limit="5/hour", sign_in_limit="2/hour")
    return create_app(web_farm, config, {"TESTING": True, "WTF_CSRF_ENABLED": False})


def test_one_account_too_fast_slows_no_other(strict: Flask, web_farm: Farm) -> None:
    """The sixth request is a 429 that says when to come back; another account goes on."""
    with web_farm.store.write() as tx:
        tx.add(
            Account(
                id="acc_other",
                name="other",
                plan="free",
                default_session_id="ses_none",
                created_at_ms=0,
            )
        )
    tokens = [
        keys.create(web_farm, account_id=owner, kind=KeyKind.USER, name="k")[1]
        for owner in (account_id(web_farm), "acc_other")
    ]
    fast, slow = [{"Authorization": f"Bearer {token}"} for token in tokens]
    client = strict.test_client()
    for _ in range(5):
        assert client.get("/api/v1/jobs", headers=fast).status_code == 200
    for path in ("/api/v1/jobs", "/v1/videos"):
        refused = client.get(path, headers=fast)
        assert refused.status_code == 429
        assert 0 < int(refused.headers["Retry-After"]) <= 3600
    assert client.get("/api/v1/jobs", headers=fast).get_json()["next"]
    assert client.get("/api/v1/jobs", headers=slow).status_code == 200


def test_a_new_key_is_no_new_count(strict: Flask, web_farm: Farm) -> None:
    """An account that rotates its key has what is left of its requests, and no more."""
    owner = account_id(web_farm)
    old, token = keys.create(web_farm, account_id=owner, kind=KeyKind.USER, name="k")
    client = strict.test_client()
    for _ in range(5):
        client.get("/api/v1/jobs", headers={"Authorization": f"Bearer {token}"})
    _, fresh = keys.rotate(web_farm, owner, old.id, keep_seconds=60)
    refused = client.get("/api/v1/jobs", headers={"Authorization": f"Bearer {fresh}"})
    assert refused.status_code == 429


def test_guessing_keys_is_slowed_by_address(strict: Flask) -> None:
    """Requests without a live key count for where they came from, whatever key they show."""
    client = strict.test_client()
    found = [
        client.get("/api/v1/jobs", headers={"Authorization": f"Bearer farm_user_{n}_x"}).status_code
        for n in range(7)
    ]
    assert found == [401] * 5 + [429] * 2


def test_guessing_passwords_is_slowed(strict: Flask) -> None:
    """The third try to sign in from one address is a 429, as a page."""
    client = strict.test_client()
    form = {"name": "ada", "password": "a guess"}
    found = [client.post("/sign-in", data=form) for _ in range(3)]
    assert [answer.status_code for answer in found] == [401, 401, 429]
    assert "Wait a little" in found[-1].text


def test_workers_and_probes_are_not_counted(strict: Flask, web_farm: Farm) -> None:
    """A busy worker's heartbeats are the farm's own, and so are health checks."""
    _, token = keys.create(web_farm, account_id=None, kind=KeyKind.JOIN, name="j")
    client = strict.test_client()
    for _ in range(8):
        assert client.get("/healthz").status_code == 200
        refused = client.post("/worker/v1/claim", headers={"Authorization": f"Bearer {token}"})
        assert refused.status_code in (403, 422)


@pytest.mark.parametrize("limit", ["many", "5", "5/fortnight", "-5/hour", "5 per hour; 1/day"])
def test_a_limit_that_is_none_is_refused(limit: str) -> None:
    """FARM_RATE_LIMIT is a number in a time."""
    with pytest.raises(ValidationError):
        Settings(rate_limit=limit)


def test_a_job_has_so_many_pixel_steps(sqlite_url: str, clock: Clock) -> None:
    """Frames x pixels x steps of one job are bounded, for quotes as for jobs."""
    store = open_store(sqlite_url)
    farm = make_farm(store, clock, max_job_megapixel_steps=1)
    asked = {"account_id": account_id(farm), "session_id": None, "brief": brief(seconds=10.0)}
    for verb in (jobs.submit, jobs.estimate):
        with pytest.raises(
            BadRequest, match="million pixel-steps; a job of this farm has at most 1"
        ):
            verb(farm, **asked)
    store.close()


def test_a_prompt_has_so_many_characters(sqlite_url: str, clock: Clock) -> None:
    """A prompt beyond FARM_MAX_PROMPT_CHARS is refused before it is read."""
    store = open_store(sqlite_url)
    farm = make_farm(store, clock, max_prompt_chars=50)
    with pytest.raises(BadRequest):
        submit(farm, brief("a cat " * 20))
    store.close()
