"""A name for each request: on its answer, in its problem, and in every line that it logs."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from flask import has_request_context, request

from orchestrator import logs

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

HEADER: Final = "X-Request-Id"
MAX_CHARS: Final = 128
FITS: Final = re.compile(rf"[A-Za-z0-9._:+/=@~-]{{1,{MAX_CHARS}}}")
_PLACE: Final = "framefarm.request_id"


def named(app: "WSGIApplication") -> "WSGIApplication":
    """Return an application whose every answer carries its request's name.

    A client's own name is taken if it is harmless wherever names go; otherwise a new one is made.
    """

    def called(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        given = str(environ.get("HTTP_X_REQUEST_ID", ""))
        name = given if FITS.fullmatch(given) else new()
        environ[_PLACE] = name
        logs.of_request(name)

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            return start_response(status, [*headers, (HEADER, name)], *error)

        return app(environ, start)

    return called


def new() -> str:
    """Return a name that no other request has."""
    return f"req_{uuid4().hex}"


def current() -> str:
    """Return the name of the request that is being answered; empty outside of one."""
    return str(request.environ.get(_PLACE, "")) if has_request_context() else ""
