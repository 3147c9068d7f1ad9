"""Connections of a real web process: kept for those who come again, not for those who dawdle."""

import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest

from tests.web.conftest import until
from web import connections, serving

DAWDLERS = 50
Served = tuple[str, str, str]


def connected(url: str) -> socket.socket:
    """Return a connection to a server."""
    return socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=60)


def told(line: socket.socket) -> bytes:
    """Return everything that comes until the other side closes."""
    found = b""
    try:
        while piece := line.recv(65536):
            found += piece
    except ConnectionResetError:
        pass
    return found


def answered(line: socket.socket) -> bool:
    """Ask for the farm's health, and tell whether the whole answer came."""
    line.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    found = b""
    while not found.rstrip().endswith(b"}"):
        piece = line.recv(4096)
        if not piece:
            return False
        found += piece
    return found.startswith(b"HTTP/1.1 200 ")


@pytest.fixture
def drip() -> Iterator[list[socket.socket]]:
    """Lines to which a byte is sent now and then, whatever the other side does."""
    lines: list[socket.socket] = []
    over = threading.Event()

    def drop() -> None:
        while not over.wait(1):
            for line in tuple(lines):
                try:
                    line.sendall(b"a")
                except OSError:
                    lines.remove(line)

    thread = threading.Thread(target=drop)
    thread.start()
    yield lines
    over.set()
    thread.join()


@pytest.mark.slow(40)
@pytest.mark.parametrize("waits_for", ["headers", "body", "form"])
def test_who_sends_a_byte_now_and_then_is_let_go(
    served: Served, drip: list[socket.socket], waits_for: str
) -> None:
    """Fifty of them keep nobody out, and each is closed by a 408 before long."""
    url, token, job_id = served
    key = f"Authorization: Bearer {token}\r\n".encode()
    begin = {
        "headers": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: ",
        "body": b"POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\n" + key
        + b"Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n",
        "form": b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100000\r\n\r\n",
    }[waits_for]  # fmt: skip
    most = max(connections.HEAD_SECONDS, connections.BODY_SECONDS) + 15
    with ExitStack() as stack, ThreadPoolExecutor(DAWDLERS) as people:
        lines = [stack.enter_context(connected(url)) for _ in range(DAWDLERS)]
        for line in lines:
            line.sendall(begin)
        began = time.monotonic()
        drip += lines
        ends = [people.submit(told, line) for line in lines]
        headers = {"Authorization": f"Bearer {token}"}
        assert httpx.get(f"{url}/api/v1/jobs/{job_id}", headers=headers, timeout=10).is_success
        answers = [each.result(most) for each in ends]
        assert time.monotonic() - began < most
    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers), answers[0]
    assert all(re.search(rb"(?i)\r\nx-request-id: req_", answer) for answer in answers)


@pytest.mark.slow(20)
def test_who_says_nothing_at_all_is_let_go(served: Served) -> None:
    """A connection on which no word ever came ends by itself, without one either."""
    with connected(served[0]) as line:
        began = time.monotonic()
        assert told(line) == b""
    assert time.monotonic() - began < connections.HEAD_SECONDS + 10


@pytest.mark.slow(10)
def test_a_slow_but_steady_body_is_taken(served: Served) -> None:
    """A long body at a kilobyte a second goes on for as long as it comes."""
    url, token, _ = served
    body = b'{"prompt": "a cat", "model": "fake"' + b" " * 4000 + b"}"
    head = f"POST /api/v1/quotes HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with connected(url) as line:
        line.sendall(head.encode())
        for start in range(0, len(body), 1000):
            line.sendall(body[start : start + 1000])
            time.sleep(1)
        assert line.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_an_idle_connection_outlives_those_of_clients_and_proxies() -> None:
    """nginx keeps its own for 60 s, load balancers mostly so, and pooled clients for less."""
    assert serving.keepalive >= 75


@pytest.mark.slow(15)
def test_an_idle_connection_is_kept(served: Served) -> None:
    """A second request after a pause is answered on it."""
    url = served[0]
    with connected(url) as line:
        for _ in range(2):
            assert answered(line)
            time.sleep(4)  # above gunicorn's own two seconds


def test_requests_that_came_at_once_are_answered_in_turn(served: Served) -> None:
    """Requests sent ahead are not lost between two of a connection."""
    asked = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with connected(served[0]) as line:
        line.sendall(asked + asked + last)
        assert told(line).count(b"HTTP/1.1 200 ") == 3


def test_a_stop_waits_for_no_idle_client(served: Served, tmp_path: Path) -> None:
    """Idle connections end at once, and gunicorn does not wait for its grace to be over."""
    url = served[0]
    (master,) = [
        each
        for each in psutil.Process().children()
        if url.removeprefix("http://") in each.cmdline()  # other modules have farms of their own
    ]
    (worker,) = master.children()
    with ExitStack() as stack:
        lines = [stack.enter_context(connected(url)) for _ in range(3)]
        assert all(answered(line) for line in lines)
        worker.terminate()
        assert [told(line) for line in lines] == [b""] * 3
    worker.wait(20)
    assert "graceful timeout" not in (tmp_path / "web.log").read_text(), "it waited for them"
    until(lambda: httpx.get(f"{url}/healthz").is_success)
