"""`Prefer: wait=N`: one request instead of many looks, in memory and for a bounded time."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from orchestrator.farm import Farm, jobs
from orchestrator.farm.accounts import keys
from orchestrator.model import Job
from orchestrator.settings import Settings
from orchestrator.states import KeyKind
from tests.factories import Clock, Hand, account_id, submit
from tests.web.conftest import until
from web.app import create_app

BODY = {"prompt": "a cat", "model": "fake", "seconds": 1}
LONG = {"Prefer": "wait=50"}


def client_of(app: Flask, farm: Farm, kind: KeyKind = KeyKind.USER) -> tuple[FlaskClient, str]:
    """Return a client of an application, and its key's id."""
    key, token = keys.create(farm, account_id=account_id(farm), kind=kind, name="k")
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    return client, key.id


@contextmanager
def asking(
    app: Flask, client: FlaskClient, job: Job, headers: dict[str, str]
) -> Iterator[Future[TestResponse]]:
    """Yield the answer to come of a look at a job, once that waits."""
    with ThreadPoolExecutor(1) as other:
        answer = other.submit(client.get, f"/api/v1/jobs/{job.id}", headers=headers)
        until(lambda: app.extensions["streams"].count() > 0, seconds=20)
        yield answer
    assert app.extensions["streams"].count() == 0


def test_a_look_waits_for_the_end(app: Flask, api: FlaskClient, web_farm: Farm) -> None:
    """The answer comes with the end and not with its time, and says what was granted."""
    job = submit(web_farm)
    began = time.monotonic()
    with asking(app, api, job, LONG) as answer:
        jobs.cancel(web_farm, None, job.id)
        told = answer.result(20)
    assert time.monotonic() - began < 25
    assert told.status_code == 200
    assert told.get_json()["state"] == "cancelled"
    assert told.headers["Preference-Applied"] == "wait=50"


def test_a_look_waits_for_a_finished_video(
    app: Flask, api: FlaskClient, web_farm: Farm, clock: Clock
) -> None:
    """Events on the way to it end no wait."""
    job = submit(web_farm)
    with asking(app, api, job, LONG) as answer:
        Hand(web_farm, clock).work_off()
        told = answer.result(20).get_json()
    assert (told["state"], told["progress"]) == ("succeeded", 100)


def test_a_wait_has_an_end(api: FlaskClient, web_farm: Farm) -> None:
    """After its seconds the job is shown as it is."""
    job = submit(web_farm)
    began = time.monotonic()
    told = api.get(f"/api/v1/jobs/{job.id}", headers={"Prefer": "wait=1"})
    assert 1 <= time.monotonic() - began < 20
    assert told.get_json()["state"] == "queued"
    assert told.headers["Preference-Applied"] == "wait=1"


@pytest.mark.parametrize(
    ("said", "applied"),
    [
        ("wait=600", "wait=60"),
        ("wait=60", "wait=60"),
        ("wait=0", "wait=0"),
        ('WAIT = "5"', "wait=5"),
        ("respond-async, wait=7; x=y", "wait=7"),
        ("wait=3, wait=9", "wait=3"),
        ("wait", None),
        ("wait=", None),
        ("wait=-1", None),
        ("wait=1.5", None),
        ("wait=²", None),
        ("await=5", None),
        ("respond-async", None),
        ("", None),
        (None, None),
    ],
)
def test_a_preference_is_read_as_rfc_7240_has_it(
    api: FlaskClient, web_farm: Farm, said: str | None, applied: str | None
) -> None:
    """At most a minute is granted, and what cannot be read is no preference."""
    job = submit(web_farm)
    jobs.cancel(web_farm, None, job.id)
    headers = {} if said is None else {"Prefer": said}
    told = api.get(f"/api/v1/jobs/{job.id}", headers=headers)
    assert told.status_code == 200
    assert told.headers.get("Preference-Applied") == applied


def test_a_submission_waits_too(app: Flask, api: FlaskClient, web_farm: Farm) -> None:
    """202 while it has not ended, 200 once it has; the same key waits for the same job again."""
    headers = {"Prefer": "wait=1", "Idempotency-Key": "once"}
    first = api.post("/api/v1/jobs", json=BODY, headers=headers)
    assert (first.status_code, first.get_json()["state"]) == (202, "queued")
    assert first.headers["Preference-Applied"] == "wait=1"
    with ThreadPoolExecutor(1) as other:
        again = other.submit(api.post, "/api/v1/jobs", json=BODY, headers=headers | LONG)
        until(lambda: app.extensions["streams"].count() > 0, seconds=20)
        jobs.cancel(web_farm, None, first.get_json()["id"])
        told = again.result(20)
    assert (told.status_code, told.get_json()["id"]) == (200, first.get_json()["id"])
    assert told.get_json()["state"] == "cancelled"
    assert api.post("/api/v1/jobs", json=BODY).headers.get("Preference-Applied") is None


def test_a_wait_counts_as_a_stream(web_farm: Farm, tmp_path: Path) -> None:
    """One look too many is a 429; a submission is taken, and does not wait."""
    config = Settings(home=tmp_path / "home", min_free_disk_mb=1, max_streams=1)
    app = create_app(web_farm, config, {"TESTING": True})
    (client, _), job = client_of(app, web_farm), submit(web_farm)
    path = f"/api/v1/jobs/{job.id}"
    with asking(app, client, job, LONG) as answer:
        second = app.test_client()
        second.environ_base |= client.environ_base
        refused = second.get(path, headers=LONG)
        assert (refused.status_code, refused.get_json()["code"]) == (429, "too_many_requests")
        assert int(refused.headers["Retry-After"]) > 0
        taken = second.post("/api/v1/jobs", json=BODY, headers=LONG)
        assert taken.status_code == 202
        assert "Preference-Applied" not in taken.headers
        assert second.get(path).status_code == 200
        jobs.cancel(web_farm, None, job.id)
        assert answer.result(20).status_code == 200


def test_a_revoked_key_is_told_nothing(app: Flask, web_farm: Farm) -> None:
    """A key that ends while it waits hears no more of the job than that."""
    (client, key_id), job = client_of(app, web_farm), submit(web_farm)
    with asking(app, client, job, LONG) as answer:
        keys.revoke(web_farm, None, key_id)
        jobs.cancel(web_farm, None, job.id)
        told = answer.result(20)
    assert told.status_code == 401
    assert "state" not in told.get_json()


def test_others_jobs_are_not_waited_for(other: FlaskClient, web_farm: Farm) -> None:
    """A job of another account is not found, at once."""
    began = time.monotonic()
    assert other.get(f"/api/v1/jobs/{submit(web_farm).id}", headers=LONG).status_code == 404
    assert time.monotonic() - began < 20
