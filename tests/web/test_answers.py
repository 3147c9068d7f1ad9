"""Parts of every answer: a request's id, and when to come again where that is asked."""

import json
import re
import socket
from collections.abc import Iterator

import httpx
import pytest
import structlog
from flask import Flask
from flask.testing import FlaskClient

from orchestrator import errors
from orchestrator.errors import FarmError
from orchestrator.farm import Farm
from tests.factories import submit
from web import answers
from web.errors import STATUS

MADE = re.compile(r"req_[0-9a-f]{32}")
PATHS = (
    "/healthz",
    "/metrics",
    "/sign-in",
    "/",
    "/nowhere",
    "/static/none.css",
    "/openapi/openapi.json",
    "/api/v1/jobs",
    "/api/v1/nowhere",
    "/v1/videos",
    "/v1/nowhere",
    "/worker/v1/claim",
    "/worker/v1/nowhere",
)


def kinds() -> Iterator[type[FarmError]]:
    """Yield every kind of error there is."""
    for found in vars(errors).values():
        if isinstance(found, type) and issubclass(found, FarmError) and found is not FarmError:
            yield found


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "POST", "BREW"])
def test_every_answer_has_an_id_of_its_own(app: Flask, path: str, method: str) -> None:
    """Pages, both APIs, the worker protocol, what is not there and what is refused."""
    client = app.test_client()
    found = [client.open(path, method=method).headers.getlist("X-Request-Id") for _ in range(2)]
    assert all(len(each) == 1 and MADE.fullmatch(each[0]) for each in found)
    assert found[0] != found[1]


@pytest.mark.parametrize("given", ["abc", "f" * 128, "0af7651916cd43dd-b7ad.1:2=3/4@x~y+z_w"])
def test_a_clients_own_id_is_kept(app: Flask, given: str) -> None:
    """It comes back on the answer and in the problem."""
    answer = app.test_client().get("/api/v1/jobs", headers={"X-Request-Id": given})
    assert answer.headers["X-Request-Id"] == given == answer.get_json()["request_id"]
    other = app.test_client().get("/v1/videos", headers={"X-Request-Id": given})
    assert other.get_json()["error"]["request_id"] == given


@pytest.mark.parametrize("given", ["", " ", "f" * 129, "a b", "a,b", '"', "<b>", "é", "a;b", "%0a"])
def test_an_id_that_is_none_is_replaced(app: Flask, given: str) -> None:
    """Too long, or with anything in it that a log, a header or a page could trip over."""
    answer = app.test_client().get("/api/v1/jobs", headers={"X-Request-Id": given})
    assert MADE.fullmatch(answer.headers["X-Request-Id"])
    assert answer.get_json()["request_id"] == answer.headers["X-Request-Id"]


def test_an_event_stream_has_its_id(api: FlaskClient, web_farm: Farm) -> None:
    """It is there before the first event."""
    job = submit(web_farm)
    answer = api.get(f"/api/v1/jobs/{job.id}/events", headers={"X-Request-Id": "mine"})
    assert answer.headers["X-Request-Id"] == "mine"
    answer.close()


def test_what_a_request_logs_names_it(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error nobody expected is found in the log by the id that its answer carries."""

    def broken() -> None:
        raise ZeroDivisionError

    app.config["PROPAGATE_EXCEPTIONS"] = False
    monkeypatch.setitem(app.view_functions, "health.metrics", broken)
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        answer = app.test_client().get("/metrics", headers={"X-Request-Id": "trace.1"})
        app.test_client().get("/healthz", headers={"X-Request-Id": "trace.2"})
    assert answer.status_code == 500
    assert answer.get_json()["request_id"] == "trace.1"
    assert [line["request_id"] for line in lines] == ["trace.1"]


def test_a_page_of_a_broken_farm_shows_the_id(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person can read out what to look for."""

    def broken() -> None:
        raise ZeroDivisionError

    app.config["PROPAGATE_EXCEPTIONS"] = False
    monkeypatch.setitem(app.view_functions, "pages.door", broken)
    assert "trace.1" in app.test_client().get("/sign-in", headers={"X-Request-Id": "trace.1"}).text


@pytest.mark.parametrize("kind", list(kinds()), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("path", ["/api/v1/jobs", "/v1/videos", "/sign-in"])
def test_only_429_and_503_say_when_to_come_again(
    app: Flask,
    api: FlaskClient,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[FarmError],
    path: str,
) -> None:
    """Every kind of error, in both dialects and as a page."""

    def refused(*_: object, **__: object) -> None:
        raise kind(state="queued", event="stop") if kind is errors.IllegalStep else kind

    (view,) = [
        rule.endpoint
        for rule in app.url_map.iter_rules()
        if rule.rule == path and "GET" in (rule.methods or ())
    ]
    monkeypatch.setitem(app.view_functions, view, refused)
    answer = api.get(path)
    status = STATUS[kind.code]
    assert answer.status_code == (400 if path == "/v1/videos" and status == 422 else status) or (
        kind is errors.IdempotencyMismatch
    )
    assert ("Retry-After" in answer.headers) is (answer.status_code in answers.COME_AGAIN)
    if status in answers.COME_AGAIN:
        assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.parametrize("path", PATHS)
def test_nothing_else_says_when_to_come_again(api: FlaskClient, path: str) -> None:
    """A client that was answered waits for nothing."""
    for method in ("GET", "POST", "BREW"):
        answer = api.open(path, method=method)
        assert answer.status_code not in answers.COME_AGAIN
        assert "Retry-After" not in answer.headers


def test_ids_of_a_real_server_are_in_its_log(
    served: tuple[str, str, str], tmp_path: object
) -> None:
    """Answers on one connection have ids of their own, and a refusal by gunicorn has one too."""
    url, token, job_id = served
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}) as client:
        seen = [client.get(f"/api/v1/jobs/{job_id}").headers["X-Request-Id"] for _ in range(3)]
        missing = client.get("/api/v1/jobs/none")
    assert len(set(seen)) == 3
    assert missing.json()["request_id"] == missing.headers["X-Request-Id"]
    for wrong, status in (
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"414"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", b"431"),
    ):
        head, body = exchanged(url, wrong)
        assert head.split(b" ")[1] == status
        (named,) = re.findall(rb"(?i)x-request-id: (\S+)", head)
        told = json.loads(body)
        assert told["request_id"] == named.decode()
        assert told["status"] == int(status)
        assert told["next"]["text"]
        assert b"application/problem+json" in head


def exchanged(url: str, sent: bytes) -> tuple[bytes, bytes]:
    """Send bytes to a server, and return the head and the body of its answer."""
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 30) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        found = b""
        while piece := client.recv(65536):
            found += piece
    head, _, body = found.partition(b"\r\n\r\n")
    return head, body
