"""gunicorn's gevent worker, with patience that ends: for idle clients, for headers and for bodies.

gunicorn waits for the headers of a request as long as it keeps an idle connection, and for a body
for ever; a client that sends a byte now and then would hold its connection as long as it likes.
"""

import json
import socket
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, Final

import gevent
from gunicorn.workers.ggevent import GeventWorker

IDLE_SECONDS: Final = 90
"""Time for which an idle connection is kept: longer than clients and proxies keep theirs (60 s to
75 s, mostly), who would otherwise write into one that the farm is just closing."""
HEAD_SECONDS: Final = 15.0
"""Time for the first word of a new connection, and for all headers of a request from its first."""
BODY_SECONDS: Final = 20.0
"""Time that a body may be waited for in all, and more with what has come of it."""
BODY_BYTES_A_SECOND: Final = 500
"""Speed from which on a body may take as long as it takes."""
LOOK_SECONDS: Final = 0.2
LEFT_BYTES: Final = 65_536
GOODBYE_SECONDS: Final = 2.0
"""Time for a client to take the word that it is refused."""
TOO_SLOW: Final = "The request came too slowly."


class Connection:
    """A client's socket that knows what it waits for: a request, its headers, or its body."""

    def __init__(self, client: Any, worker: "Worker") -> None:
        self._socket, self._worker = client, worker
        self._left: float | None = HEAD_SECONDS
        """Time left for what is waited for; None: until its first byte, which may be long."""
        self._in_body = False
        self._came = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def begin_body(self) -> None:
        """Note that headers are there: what comes now is this request's body."""
        self._in_body, self._left = True, BODY_SECONDS

    def begin_request(self) -> None:
        """Note that a request is answered: what comes now is the next one, or nothing."""
        self._in_body, self._left, self._came = False, None, 0

    def recv(self, most: int) -> bytes:
        """Return what has come; nothing: no more is waited for.

        Raises:
            RequestTimeout: the body comes too slowly.
        """
        if self._left is None:
            return self._first(most)
        began = time.monotonic()
        found = self._wait(most, self._left)
        self._left -= time.monotonic() - began
        if found is None or self._left <= 0:
            if self._in_body:
                from werkzeug.exceptions import RequestTimeout  # once gevent has patched sockets

                raise RequestTimeout(TOO_SLOW)
            if self._came:
                refuse(self._socket, 408, "Request Timeout")
            return b""
        self._came += len(found)
        if self._in_body:
            self._left = min(self._left + len(found) / BODY_BYTES_A_SECOND, BODY_SECONDS)
        return found

    def _first(self, most: int) -> bytes:
        """Wait for the first bytes of another request."""
        if not self._worker.alive:
            return b""
        with self._worker.idling(self):
            found = self._wait(most, IDLE_SECONDS)
        self._left, self._came = HEAD_SECONDS, len(found or b"")
        return found or b""

    def _wait(self, most: int, seconds: float) -> bytes | None:
        """Return what comes within a time; None: nothing did."""
        with gevent.Timeout(max(seconds, 0.001), False):
            found: bytes = self._socket.recv(most)
            return found
        return None


class Worker(GeventWorker):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's gevent worker over such connections."""

    def __init__(self, *args: object, **more: object) -> None:
        super().__init__(*args, **more)
        self._idle: set[Connection] = set()

    def run(self) -> None:
        """Serve until told to end; then let idle clients go at once."""
        gevent.spawn(self._let_go)
        super().run()

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Serve a connection to its end."""
        super().handle(listener, Connection(client, self), addr)

    def handle_request(self, listener_name: Any, req: Any, sock: Connection, addr: Any) -> None:
        """Answer one request of a connection."""
        sock.begin_body()
        try:
            super().handle_request(listener_name, req, sock, addr)
        finally:
            sock.begin_request()

    def timeout_ctx(self) -> AbstractContextManager[None]:
        """Leave the limit on the wait for a request to its connection, which knows more."""
        return nullcontext()

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Refuse what cannot be read as a request, in the API's form of it."""
        if isinstance(exc, gevent.GreenletExit):
            return  # the farm stops, and asks nothing of who is idle
        heard = _Heard()
        super().handle_error(req, heard, addr, exc)
        _, status, reason = heard.said.partition(b"\r\n")[0].decode("latin-1").split(" ", 2)
        refuse(client, int(status), reason)

    def idling(self, connection: Connection) -> "_Idling":
        """Count a connection as idle while it waits."""
        return _Idling(self._idle, connection)

    def _let_go(self) -> None:
        while self.alive:
            gevent.sleep(LOOK_SECONDS)
        for connection in tuple(self._idle):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RD)


def refuse(client: Any, status: int, reason: str) -> None:
    """Answer what never became a request, with an id that is in the log; the connection ends."""
    # Here, as all this is imported before gevent has patched the sockets of what it imports.
    import structlog

    from orchestrator.remedies import Say, shown
    from web import request_ids

    name = request_ids.new()
    structlog.get_logger().warning("no request", status=status, request_id=name)
    problem = {
        "type": "about:blank",
        "title": reason,
        "status": status,
        "detail": "This is no request that the farm can read." if status != 408 else TOO_SLOW,
        "code": reason.lower().replace(" ", "_"),
        "request_id": name,
        "next": shown(Say("Change the request and send it again; nothing was charged."))
        | {"call": None},
    }
    body = json.dumps(problem).encode()
    head = (
        f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\n{request_ids.HEADER}: {name}\r\n"
        f"Content-Type: application/problem+json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with suppress(OSError), gevent.Timeout(GOODBYE_SECONDS, False):
        client.sendall(head.encode("ascii") + body)
        client.shutdown(socket.SHUT_WR)
        while client.recv(LEFT_BYTES):  # closed with something unread, the answer would be lost
            pass


class _Heard:
    """A client in whose place gunicorn says why it refuses a request."""

    def __init__(self) -> None:
        self.said = b""

    def sendall(self, data: bytes) -> None:
        """Hear it."""
        self.said += data

    def gettimeout(self) -> float:
        """Return how long a word may take: nothing waits here."""
        return 0.0


class _Idling:
    """Membership of a set, for a while."""

    def __init__(self, idle: set[Connection], connection: Connection) -> None:
        self._idle, self._connection = idle, connection

    def __enter__(self) -> None:
        self._idle.add(self._connection)

    def __exit__(self, *_: object) -> None:
        self._idle.discard(self._connection)
