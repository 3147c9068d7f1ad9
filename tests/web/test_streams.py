"""Open streams: they end with their job, with their key, and with their browser's sign-in."""

from collections.abc import Iterator

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from orchestrator.farm import Farm, jobs
from orchestrator.farm.accounts import keys
from orchestrator.farm.jobs import deleting
from orchestrator.farm.leases import fleet
from orchestrator.model import Job
from orchestrator.states import KeyKind
from tests.factories import Clock, Hand, account_id, submit


def watched(app: Flask, token: str, job: Job) -> tuple[TestResponse, Iterator[bytes]]:
    """Return a job page's stream, after its first message, in a browser that signed in by a key."""
    client = app.test_client()
    app.config["WTF_CSRF_ENABLED"] = False
    assert client.post("/sign-in", data={"token": token}).status_code == 303
    answer = client.get(f"/jobs/{job.id}/live")
    stream = answer.iter_encoded()
    assert next(stream).startswith(b"retry")
    return answer, stream


def test_a_revoked_keys_stream_ends(app: Flask, house: Farm) -> None:
    """Nothing that happens after the revocation is told."""
    job = submit(house)
    row, token = keys.create(house, account_id=account_id(house), kind=KeyKind.READ, name="r")
    headers = {"Authorization": f"Bearer {token}"}
    answer = app.test_client().get(f"/api/v1/jobs/{job.id}/events", headers=headers)
    stream = answer.iter_encoded()
    assert next(stream).startswith(b"retry")
    assert b'"queued"' in next(stream)
    keys.revoke(house, None, row.id)
    jobs.cancel(house, None, job.id)
    assert b"cancelled" not in b"".join(stream)
    answer.close()


def test_a_signed_out_browsers_stream_ends(app: Flask, house: Farm) -> None:
    """A page that was opened with a key hears nothing after the key's end."""
    job = submit(house)
    row, token = keys.create(house, account_id=account_id(house), kind=KeyKind.USER, name="u")
    answer, stream = watched(app, token, job)
    assert b"id: " in next(stream)
    keys.revoke(house, None, row.id)
    jobs.cancel(house, None, job.id)
    assert b"".join(stream) == b""
    answer.close()


def test_a_page_follows_its_jobs_place_in_line(app: Flask, house: Farm, clock: Clock) -> None:
    """A queued job's page is drawn anew when another job makes way, though nothing befell it."""
    Hand(house, clock)
    first, second = submit(house), submit(house)
    _, token = keys.create(house, account_id=account_id(house), kind=KeyKind.USER, name="u")
    answer, stream = watched(app, token, second)
    assert b"1 job ahead" in next(stream)
    jobs.cancel(house, None, first.id)
    assert b"it is next" in next(stream)
    answer.close()


def test_a_page_hears_that_the_farm_was_frozen_and_thawed(app: Flask, house: Farm) -> None:
    """The reason of a wait changes without an event of its own, and the page says so at once."""
    job = submit(house)
    _, token = keys.create(house, account_id=account_id(house), kind=KeyKind.USER, name="u")
    answer, stream = watched(app, token, job)
    assert b"id: " in next(stream)
    sentence = b"The operator has stopped all spending"
    fleet.freeze(house, frozen=True)
    assert sentence in next(stream)
    fleet.freeze(house, frozen=False)
    thawed = next(stream)
    assert b"#meter" in thawed
    assert sentence not in thawed
    answer.close()


def test_a_deleted_jobs_stream_ends(api: FlaskClient, house: Farm) -> None:
    """Without an error in it, whoever deleted the job."""
    job = submit(house)
    answer = api.get(f"/api/v1/jobs/{job.id}/events")
    stream = answer.iter_encoded()
    assert next(stream).startswith(b"retry")
    assert b'"queued"' in next(stream)
    jobs.cancel(house, None, job.id)
    deleting.delete(house, None, job.id)
    assert b"".join(stream) == b""
    answer.close()


def test_a_stream_without_anything_to_come_is_a_204(
    api: FlaskClient, house: Farm, clock: Clock
) -> None:
    """An EventSource that has heard the end would otherwise connect again for ever."""
    job = submit(house)
    path = f"/api/v1/jobs/{job.id}/events"
    Hand(house, clock).work_off()
    whole = api.get(path).text
    last = max(int(line[4:]) for line in whole.splitlines() if line.startswith("id: "))
    assert last == jobs.events(house, (job.id,), after=0)[-1].id, "what comes with the end too"
    answer = api.get(path, headers={"Last-Event-ID": str(last)})
    assert (answer.status_code, answer.data) == (204, b"")
