"""JSON is read strictly wherever somebody sends it, and a byte order mark before it is fine."""

from codecs import BOM_UTF8
from pathlib import Path
from typing import Final

import pytest
from flask import Flask
from flask.testing import FlaskClient

from orchestrator.farm import Farm, jobs
from orchestrator.farm.accounts import keys
from orchestrator.states import KeyKind
from tests.factories import account_id
from tests.web.conftest import Caller

DATA: Final = Path(__file__).parents[1] / "data"
LATIN_1: Final = (DATA / "latin1_body.json").read_bytes()
BODIES: Final = {
    "/api/v1/jobs": b'{"prompt": "a dog", "seconds": 1}',
    "/api/v1/quotes": b'{"prompt": "a dog", "seconds": 1}',
    "/api/v1/sessions": b'{"name": "s"}',
    "/api/v1/webhooks": b'{"url": "https://example.com/h"}',
    "/v1/videos": b'{"prompt": "a dog", "seconds": "1"}',
    "/worker/v1/claim": b"{}",
}
"""Address -> a body that it takes: the native API, flask-openapi's, OpenAI's and the workers'."""


def sent(client: FlaskClient, address: str, body: bytes) -> tuple[int, str]:
    """Return status and text of the answer to a body of JSON."""
    answer = client.post(address, data=body, content_type="application/json")
    return answer.status_code, answer.text


@pytest.fixture
def clients(caller: Caller, app: Flask, web_farm: Farm) -> dict[str, FlaskClient]:
    """Clients by the kind of address they may call."""
    _, token = keys.create(web_farm, account_id=account_id(web_farm), kind=KeyKind.JOIN, name="j")
    worker = app.test_client()
    worker.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    hello = {"name": "w", "host": "h", "device": "cpu", "device_class": "cpu", "memory_mb": 1}
    hello |= {"kinds": ["parse"], "models": [], "fingerprint": "f"}
    key = worker.post("/worker/v1/hello", json=hello).get_json()["worker_key"]
    worker.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key}"
    return {"/worker": worker, "": caller()}


def of(clients: dict[str, FlaskClient], address: str) -> FlaskClient:
    """Return the client that may call an address."""
    return clients["/worker" if address.startswith("/worker") else ""]


@pytest.mark.parametrize("address", BODIES)
def test_a_byte_order_mark_is_fine(clients: dict[str, FlaskClient], address: str) -> None:
    """A body says the same behind the mark that Windows writes before it."""
    status, text = sent(of(clients, address), address, BOM_UTF8 + BODIES[address])
    assert status < 300, text


@pytest.mark.parametrize("address", BODIES)
@pytest.mark.parametrize(
    ("body", "says"),
    [
        (LATIN_1, "byte 18"),
        ('{"prompt": "a dog"}'.encode("utf-16"), "UTF-8"),
        (b'{"prompt": "a dog", "prompt": "a cat"}', "key 'prompt' twice"),
        (b'{"x": [{"a b": 1, "a b": 1}]}', "has the key twice"),
        (b'{"seconds": NaN}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"{", "not JSON"),
    ],
)
def test_json_that_is_none_is_refused(
    clients: dict[str, FlaskClient], web_farm: Farm, address: str, body: bytes, says: str
) -> None:
    """No UTF-8, a key twice or no JSON is a 4xx that says which, and nothing is written."""
    status, text = sent(of(clients, address), address, body)
    assert 400 <= status < 500
    assert says in text
    assert jobs.listing(web_farm, None).items == ()


@pytest.mark.parametrize("address", ["/api/v1/jobs", "/v1/videos"])
def test_a_form_says_each_thing_once(api: FlaskClient, address: str) -> None:
    """A field twice, bytes that are no text, and a storyboard with a key twice are refused."""
    for form, says in (
        ({"prompt": ["a dog", "a cat"]}, "prompt is there twice"),
        ({"prompt": "caf\N{REPLACEMENT CHARACTER}"}, "prompt is not text in UTF-8"),
        ({"storyboard": '[{"prompt": "a", "prompt": "b"}]', "prompt": "a"}, "'prompt' twice"),
    ):
        answer = api.post(address, data=form, content_type="multipart/form-data")
        assert answer.status_code in (400, 422), answer.text
        assert says in answer.text
