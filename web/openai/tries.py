"""Repeats of a client that sends no Idempotency-Key.

OpenAI's client repeats a lost answer twice, and only counts (`x-stainless-retry-count`).
"""

from typing import Final

from flask import request

from orchestrator.farm import Promise, Repeat
from orchestrator.farm.accounts.keys import digest
from web.api.parameters import idempotency, request_digest
from web.auth import current_key
from web.context import farm

READ_TIMEOUT_SECONDS: Final = 600.0
"""The client's own, where it does not say."""
DELAY_SECONDS: Final = 120.0
"""The client waits at most this long before it tries again."""
MOST_TRIES: Final = 99


def promise() -> Promise:
    """Return what this request promises: its key, or which try of what it is."""
    if keyed := idempotency():
        return keyed
    tries = tries_before()
    patience = _timeout_seconds() + DELAY_SECONDS
    return Repeat(
        request_sha256=digest(f"{current_key().id}\n{request_digest()}"),
        tries_before=tries,
        arrived_at_ms=farm().clock(),
        window_ms=round(tries * patience * 1000),
    )


def tries_before() -> int:
    """Return how often the client says that it has sent this request before."""
    count = request.headers.get("x-stainless-retry-count", "", str)
    return min(int(count[:3]), MOST_TRIES) if count.isascii() and count.isdecimal() else 0


def _timeout_seconds() -> float:
    given = request.headers.get("x-stainless-read-timeout", READ_TIMEOUT_SECONDS, float)
    return given if 0 < given < 1e6 else READ_TIMEOUT_SECONDS
