"""Hearing at once that a client has hung up, while its request still waits for something.

Nothing is written to a quiet client, and nothing but a write would tell; so its socket is watched.
"""

import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import gevent
from flask import request, stream_with_context
from gevent import monkey

READABLE: Final = 1
_ENDS: Final = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR


@contextmanager
def watched(gone: Callable[[], None]) -> Iterator[None]:
    """Call this once, on the hub, if this request's client hangs up meanwhile; it must not wait.

    Outside gunicorn's gevent worker nobody is watched.
    """
    connection = request.environ.get("gunicorn.socket")
    if connection is None or not monkey.is_module_patched("socket"):
        yield
        return
    watcher = gevent.get_hub().loop.io(connection.fileno(), READABLE)

    def look() -> None:
        watcher.stop()  # a socket with something to read would call again and again
        if has_ended(connection):
            gone()

    watcher.start(look)
    try:
        yield
    finally:
        watcher.stop()
        watcher.close()


def until_gone(gone: Callable[[], None], parts: Iterator[str]) -> Iterator[str]:
    """Give the parts of an answer, watching this request's client from the first to the last."""

    def given() -> Iterator[str]:
        with watched(gone):
            yield from parts

    return stream_with_context(given())


def has_ended(connection: Any) -> bool:
    """Tell whether the other side of a socket will say no more."""
    poll = monkey.get_original("select", "poll")()
    poll.register(connection.fileno(), _ENDS)
    return bool(poll.poll(0))
