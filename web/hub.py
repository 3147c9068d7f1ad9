"""Keeping the hub free: what blocks runs on a native thread.

gunicorn's gevent worker serves every request and stream on one thread, the hub. SQLite and
file hashing would stop them all, so they run in gevent's thread pool; outside gevent (tests,
the flask command) the same call runs where it stands.
"""

import contextvars
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from gevent import get_hub, monkey

P = ParamSpec("P")
T = TypeVar("T")


def off_hub(verb: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking call off the hub, in the caller's context, and return what it returns."""
    if not monkey.is_module_patched("socket"):
        return verb(*args, **kwargs)
    context = contextvars.copy_context()
    result: T = get_hub().threadpool.apply(context.run, (verb, *args), kwargs)
    return result


def pause(seconds: float) -> None:
    """Let others run for a while."""
    time.sleep(seconds)
