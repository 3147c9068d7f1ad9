"""The door to URLs that clients chose, against real servers on this machine."""

import ssl
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from orchestrator.settings import networks
from orchestrator.webhooks.addresses import Rules
from orchestrator.webhooks.safe_http import Door, Refused, Unreachable
from tests.receiver import Received, Receiver, receiving

CERTIFICATE = Path(__file__).with_name("webhooks.test.pem")
"""Of the name hooks.test, self-signed for a hundred years, with its key: for this test alone."""
HERE = Rules(http=True, networks=networks("127.0.0.1/32"))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A plain HTTP server."""
    with receiving() as server:
        yield server


def test_a_request_arrives_with_its_host_and_headers(receiver: Receiver) -> None:
    """The body and the headers arrive, and Host is the name that was asked for."""
    door = Door(rules=HERE, resolver=lambda *_: ["127.0.0.1"])
    port = receiver.url.rpartition(":")[2]
    answer = door.post(f"http://hooks.example.com:{port}/a?b", b"{}", {"webhook-id": "m"})
    assert answer.status == 204
    got = receiver.got[0]
    assert (got.path, got.body) == ("/a?b", b"{}")
    assert got.headers["host"] == f"hooks.example.com:{port}"
    assert got.headers["webhook-id"] == "m"


@pytest.mark.parametrize(
    "answers",
    [
        ["127.0.0.2"],
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["8.8.8.8", "10.0.0.1"],
        ["127.0.0.1", "127.0.0.2"],
        ["2606:4700::1111", "::1"],
        ["::ffff:8.8.8.8"],
        ["64:ff9b::808:808"],
        ["fe80::1%lo"],
        [],
    ],
)
def test_one_address_that_is_not_allowed_refuses_the_name(
    receiver: Receiver, answers: list[str]
) -> None:
    """A name is refused when any of its addresses is not allowed; nothing is connected to."""
    door = Door(rules=HERE, resolver=lambda *_: answers)
    port = receiver.url.rpartition(":")[2]
    with pytest.raises(Refused):
        door.post(f"http://hooks.example.com:{port}/", b"{}", {})
    assert receiver.got == []


def test_a_name_is_resolved_once(receiver: Receiver) -> None:
    """A second look-up that says something else (DNS rebinding) is never made."""
    asked: list[str] = []

    def rebinding(host: str, _: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    port = receiver.url.rpartition(":")[2]
    door = Door(rules=HERE, resolver=rebinding)
    assert door.post(f"http://hooks.example.com:{port}/", b"", {}).status == 204
    assert asked == ["hooks.example.com"]


def test_a_name_that_does_not_resolve_is_unreachable() -> None:
    """A failing look-up is a failed try, not a crash."""
    with pytest.raises(Unreachable):
        Door(rules=Rules()).post("https://nothing.invalid/", b"", {})


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    """A 302 to another address is an answer like any other."""

    def says(_: Received, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", f"{receiver.url}/inside")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    receiver.says = says
    assert Door(rules=HERE).post(f"{receiver.url}/", b"", {}).status == 302
    assert [got.path for got in receiver.got] == ["/"]


def test_a_huge_answer_is_cut_off(receiver: Receiver) -> None:
    """An answer of more than 64 KiB is a failure, and is not read to its end."""

    def says(_: Received, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(10_000):
            handler.wfile.write(b"x" * 100_000)

    receiver.says = says
    with pytest.raises(Unreachable, match="longer"):
        Door(rules=HERE).post(f"{receiver.url}/", b"", {})


@pytest.mark.parametrize("drip", [b"HTTP/1.1 200 OK\r\nX-A: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_an_answer_that_drips_ends_in_time(receiver: Receiver, drip: bytes) -> None:
    """A byte now and then, in the head or in the body, does not hold a sender."""

    def says(_: Received, handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(drip)
        for _ in range(600):
            handler.wfile.write(b"a")
            handler.wfile.flush()
            time.sleep(0.05)

    receiver.says = says
    began = time.monotonic()
    with pytest.raises(Unreachable):
        Door(rules=HERE, timeout_seconds=0.5).post(f"{receiver.url}/", b"", {})
    assert time.monotonic() - began < 15


def test_what_is_no_http_is_a_failure(receiver: Receiver) -> None:
    """Another protocol on the port is a failed try."""
    receiver.says = lambda _, handler: (handler.wfile.write(b"SSH-2.0-x\r\n"), None)[1]
    with pytest.raises(Unreachable):
        Door(rules=HERE).post(f"{receiver.url}/", b"", {})


def test_the_certificate_is_checked_against_the_name() -> None:
    """SNI and certificate go by the name, though the connection goes to a checked address."""
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(CERTIFICATE)
    trusted = ssl.create_default_context(cafile=str(CERTIFICATE))
    with receiving(served) as receiver:
        port = receiver.url.rpartition(":")[2]
        door = Door(rules=HERE, resolver=lambda *_: ["127.0.0.1"], ssl_context=trusted)
        assert door.post(f"https://hooks.test:{port}/", b"", {}).status == 204
        with pytest.raises(Unreachable, match="certificate"):
            door.post(f"https://other.test:{port}/", b"", {})
        with pytest.raises(Unreachable, match="certificate"):  # not signed by a public authority
            Door(rules=HERE).post(receiver.url, b"", {})
    assert len(receiver.got) == 1
