"""Webhooks over HTTP: who may register what, what is shown once, and what is never shown."""

import pytest
from flask.testing import FlaskClient

from orchestrator.farm import Farm, webhook_queue
from orchestrator.states import KeyKind
from tests.factories import submit
from tests.web.conftest import Caller

WEBHOOKS = "/api/v1/webhooks"
URL = "https://hooks.example.com/farm"


def test_a_secret_is_shown_when_it_is_made_and_never_again(api: FlaskClient) -> None:
    """Creating and rotating answer with a secret; looking does not."""
    made = api.post(WEBHOOKS, json={"url": URL})
    assert made.status_code == 201
    webhook = made.get_json()
    assert webhook["secret"].startswith("whsec_")
    rotated = api.post(f"{WEBHOOKS}/{webhook['id']}/rotate").get_json()
    assert rotated["secret"] != webhook["secret"]
    assert rotated["old_secret_until"]
    for path in (WEBHOOKS, f"{WEBHOOKS}/{webhook['id']}", f"{WEBHOOKS}/{webhook['id']}/deliveries"):
        assert "whsec_" not in api.get(path).text


def test_a_repeated_create_is_one_webhook(api: FlaskClient) -> None:
    """An Idempotency-Key makes it one, with the same secret; another body is a 422."""
    headers = {"Idempotency-Key": "k"}
    first = api.post(WEBHOOKS, json={"url": URL}, headers=headers).get_json()
    again = api.post(WEBHOOKS, json={"url": URL}, headers=headers).get_json()
    assert first == again
    other = api.post(WEBHOOKS, json={"url": URL, "events": ["job.*"]}, headers=headers)
    assert other.status_code == 422


@pytest.mark.parametrize(
    "body",
    [
        {"url": "http://hooks.example.com/"},
        {"url": "https://169.254.169.254/"},
        {"url": "https://localhost/"},
        {"url": ""},
        {"url": URL, "events": []},
        {"url": URL, "events": ["job.exploded"]},
        {"url": URL, "secret": "mine"},
        {},
    ],
)
def test_a_webhook_that_cannot_be_is_a_422(api: FlaskClient, body: object) -> None:
    """One clear sentence, and nothing is written."""
    answer = api.post(WEBHOOKS, json=body)
    assert answer.status_code == 422
    assert answer.get_json()["next"]
    assert api.get(WEBHOOKS).get_json()["data"] == []


def test_the_log_shows_what_was_sent_and_sends_it_again(api: FlaskClient, web_farm: Farm) -> None:
    """Each delivery has its body and its tries; a replay makes it pending again."""
    webhook = api.post(WEBHOOKS, json={"url": URL, "events": ["job.queued"]}).get_json()
    submit(web_farm)
    path = f"{WEBHOOKS}/{webhook['id']}/deliveries"
    (sent,) = api.get(path).get_json()["data"]
    webhook_queue.tried(web_farm, sent["id"], status=200, error="", milliseconds=3)
    (sent,) = api.get(path).get_json()["data"]
    assert (sent["state"], sent["tries"][0]["status"]) == ("delivered", 200)
    again = api.post(f"{path}/{sent['id']}/replay")
    assert (again.status_code, again.get_json()["state"]) == (202, "pending")
    assert api.post(f"{WEBHOOKS}/{webhook['id']}/test").get_json()["type"] == "webhook.test"
    assert len(api.get(path).get_json()["data"]) == 2
    assert api.post(f"{path}/msg_none/replay").status_code == 404


def test_another_tenants_webhook_is_not_found(api: FlaskClient, other: FlaskClient) -> None:
    """Nothing of another account's webhook is seen or changed."""
    path = f"{WEBHOOKS}/{api.post(WEBHOOKS, json={'url': URL}).get_json()['id']}"
    for method, tail in (
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/deliveries"),
        ("POST", "/rotate"),
        ("POST", "/enable"),
        ("POST", "/test"),
    ):
        assert other.open(path + tail, method=method).status_code == 404, (method, tail)
    assert other.get(WEBHOOKS).get_json()["data"] == []
    assert api.delete(path).status_code == 204
    assert api.get(path).status_code == 404


def test_an_operators_webhook_hears_workers(api: FlaskClient, caller: Caller) -> None:
    """Only what an admin key registers is told of workers."""
    assert api.post(WEBHOOKS, json={"url": URL}).get_json()["hears_workers"] is False
    admin = caller(KeyKind.ADMIN)
    assert admin.post(WEBHOOKS, json={"url": URL}).get_json()["hears_workers"] is True


def test_a_job_may_bring_its_webhook(api: FlaskClient, web_farm: Farm) -> None:
    """`webhook_url` is checked like any other; its secret comes with the first job alone."""
    asked = {"prompt": "a cat", "webhook_url": URL}
    assert (
        api.post("/api/v1/jobs", json=asked | {"webhook_url": "https://10.0.0.1/"}).status_code
        == 422
    )
    first = api.post("/api/v1/jobs", json=asked)
    again = api.post("/api/v1/jobs", json=asked).get_json()
    assert first.status_code == 202
    job = first.get_json()
    assert job["webhook_secret"].startswith("whsec_")
    assert "webhook_secret" not in again
    assert job["webhook_id"] == again["webhook_id"]
    assert "webhook_secret" not in api.get(f"/api/v1/jobs/{job['id']}").get_json()
    assert [m.kind for m in webhook_queue.deliveries(web_farm, None, job["webhook_id"]).items] == [
        "job.queued",
        "job.queued",
    ]
