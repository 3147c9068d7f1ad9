"""Keeping the hub free: what blocks runs on a native thread.

gunicorn's gevent worker serves every request and stream on one thread, the hub. SQL and file
hashing would stop them all, so they run in a pool of native threads; outside gevent (tests, the
flask command) the same call runs where it stands.

SQLite has one thread: it lets one writer in at a time anyway, and two that wait for each other
in its back-off waste more time than a transaction takes.
"""

import contextvars
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from flask import current_app
from gevent import monkey
from gevent.threadpool import ThreadPool

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 10
"""For a database that takes several transactions at once."""

_inside = contextvars.ContextVar("inside", default=False)


def off_hub(verb: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking call off the hub, in the caller's context, and return what it returns."""
    if _inside.get() or not monkey.is_module_patched("socket"):
        return verb(*args, **kwargs)

    def inside() -> T:
        _inside.set(True)
        return verb(*args, **kwargs)

    result: T = _pool().apply(contextvars.copy_context().run, (inside,))
    return result


def pause(seconds: float) -> None:
    """Let others run for a while."""
    time.sleep(seconds)


def _pool() -> ThreadPool:
    """Return this application's threads; made with its first request, after the fork."""
    kept = current_app.extensions
    if "threads" not in kept:
        one = kept["farm"].store.engine.dialect.name == "sqlite"
        kept["threads"] = ThreadPool(1 if one else THREADS)
    return kept["threads"]
