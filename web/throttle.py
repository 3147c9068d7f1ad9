"""Limit of what one account may ask in a while; counted in this process, without waiting."""

from typing import Final

from flask import Flask, request
from flask_limiter import Limiter

from orchestrator.errors import FarmError
from web.auth import asker, current_key
from web.context import settings

UNBOUNDED: Final = "1000000/second"


def _asker() -> str:
    """Return whose request this is: an account's, or an address's where there is no live key.

    Not a key's: an account that made a new one would be counted from nothing again.
    """
    if "Authorization" in request.headers:
        try:
            current_key()
            return asker()
        except FarmError:
            pass  # the view refuses it; until then it counts for its address
    return address()


def address() -> str:
    """Return where this request came from."""
    return f"address {request.remote_addr}"


def sign_in_limit() -> str:
    """Return the operator's limit on tries to sign in."""
    return settings().sign_in_limit


def _key_limit() -> str:
    return settings().rate_limit or UNBOUNDED


limiter = Limiter(_asker, application_limits=[_key_limit])


def init_app(app: Flask) -> None:
    """Count requests; too many are a 429 that says when to come back."""
    app.config.update(
        RATELIMIT_ENABLED=True,
        RATELIMIT_STORAGE_URI="memory://",
        RATELIMIT_STRATEGY="fixed-window",
        RATELIMIT_HEADERS_ENABLED=True,
        RATELIMIT_HEADER_RETRY_AFTER_VALUE="delta-seconds",
    )
    limiter.init_app(app)
