"""Keeping the hub free: what blocks runs on a native thread.

gunicorn's gevent worker serves every request and stream on one thread, the hub. SQL and file
hashing would stop them all, so they run in a pool of native threads; outside gevent (tests, the
flask command) the same call runs where it stands.

There are two lanes, so that a worker's call never stands in line behind pages: a heartbeat that
waits costs device time. On SQLite each lane has one thread, and of their transactions one writes at
a time, in turn: two that met in SQLite's back-off would wait for longer than a transaction takes.
"""

import contextvars
import time
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

import stamina
from flask import current_app, g
from gevent import monkey
from gevent.threadpool import ThreadPool

from orchestrator.errors import Contended

P = ParamSpec("P")
T = TypeVar("T")

CLIENTS: Final = "clients"
WORKERS: Final = "workers"
THREADS: Final = {CLIENTS: 10, WORKERS: 5}
"""For a database that takes several transactions at once; its pool has 15 connections."""

ATTEMPTS = 5
"""Of a verb whose transaction had to give way to another one."""

_inside = contextvars.ContextVar("inside", default=False)


def in_thread(verb: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking call on a native thread, in the caller's context, and return what it returns.

    A verb that met another one in the database left no trace and is called again.
    """
    if _inside.get() or not monkey.is_module_patched("socket"):
        return _again(verb, *args, **kwargs)

    def inside() -> tuple[T | None, Exception | None]:
        _inside.set(True)
        try:
            return _again(verb, *args, **kwargs), None
        except Exception as error:  # noqa: BLE001 - raised again on the other side
            return None, error

    # Errors come back as values: gevent prints those that a thread raises, one traceback for
    # every 404, and where that cannot be written (a full disk) the request waits for ever.
    value, error = _pool().apply(contextvars.copy_context().run, (inside,))
    if error is not None:
        raise error
    result: T = value
    return result


@stamina.retry(
    on=Contended, attempts=ATTEMPTS, timeout=None, wait_initial=0.01, wait_max=0.2, wait_jitter=0.05
)
def _again(verb: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return verb(*args, **kwargs)


def pause(seconds: float) -> None:
    """Let others run for a while."""
    time.sleep(seconds)


def serve_workers() -> None:
    """Have this request, a worker's, make its calls in the lane that no page stands in."""
    g.lane = WORKERS


def _pool() -> ThreadPool:
    """Return the threads of this request's lane; made with the first request, after the fork."""
    kept = current_app.extensions
    if "lanes" not in kept:
        store = kept["farm"].store
        if store.one_writer:
            store.write_in_turn(monkey.get_original("threading", "Lock")())
        kept["lanes"] = {
            lane: ThreadPool(1 if store.one_writer else most) for lane, most in THREADS.items()
        }
    return kept["lanes"][g.get("lane", CLIENTS)]
