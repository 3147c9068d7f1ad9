"""Parts of every answer, whoever made it: headers for browsers, and when to come again."""

from typing import Final

from flask import Flask, Response

POLICY: Final = (
    "default-src 'self'; img-src 'self' data:; media-src 'self'; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
COME_AGAIN: Final = frozenset({429, 503})
"""Statuses that say when to come again; no other does, as clients wait for what they are told."""
RETRY_SECONDS: Final = 5
"""Seconds to wait, if whoever refused does not know better."""


def init_app(app: Flask) -> None:
    """Finish each answer after everybody else: Flask calls the first to come last."""
    app.after_request(_come_again)


def harden(answer: Response) -> Response:
    """Say what browsers may do with an answer, unless its view says otherwise."""
    # Of an account or with a secret in it, unless its view says otherwise.
    answer.headers.setdefault("Cache-Control", "private, no-store")
    answer.headers.setdefault("Content-Security-Policy", POLICY)
    answer.headers.setdefault("X-Content-Type-Options", "nosniff")
    answer.headers.setdefault("Referrer-Policy", "same-origin")
    answer.headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
    answer.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
    answer.headers.setdefault("X-Frame-Options", "DENY")
    return answer


def _come_again(answer: Response) -> Response:
    if answer.status_code in COME_AGAIN:
        answer.headers.setdefault("Retry-After", str(RETRY_SECONDS))
    else:
        answer.headers.pop("Retry-After", None)
    return answer
