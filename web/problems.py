"""Errors as answers: problem+json (RFC 9457), OpenAI's form of it, or a page.

No answer repeats what the client sent: messages name the field and the fault.
"""

import json
from typing import Any, Final

import structlog
from flask import Flask, Response, render_template, request
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException

from orchestrator.errors import BadRequest, FarmError, Unauthorized
from orchestrator.remedies import Listing, LookAt, Remedy, Say
from web import request_ids
from web.api import remedies
from web.api.views import problem_data
from web.auth import told
from web.errors import STATUS, bad_request
from web.openai import refusals

log = structlog.get_logger()

NEXT: Final = {
    404: Say("Check the address; /openapi shows the calls there are."),
    405: Say("Check the method; /openapi shows the calls there are."),
    408: Say("Send it again over a faster connection; nothing was charged."),
    413: Say("Send less: FARM_MAX_BODY_MB bounds a request."),
    429: Say("Wait a little and send it again."),
}
CHANGE_IT: Final = Say("Change the request and send it again; nothing was charged.")
KEPT_HEADERS: Final = ("Allow", "Content-Range", "Retry-After")
PAGES: Final = ("/api/", "/worker/", "/openapi", "/v1/", "/healthz", "/metrics")


def init_app(app: Flask) -> None:
    """Answer every error of this application."""
    app.register_error_handler(FarmError, _farm_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(RecursionError, _too_deep)
    app.register_error_handler(Exception, _bug)


def problem(status: int, code: str, detail: str, *helping: Remedy, **data: Any) -> Response:
    """Return a problem+json answer, or the error page to a browser that asked for a page."""
    title = code.replace("_", " ").capitalize()
    if request.path.startswith(refusals.PREFIX):
        return refusals.refusal(
            status, code, detail, *helping, request_id=request_ids.current(), **data
        )
    if not request.path.startswith(PAGES):
        page = render_template(
            "error.html",
            status=status,
            title=title,
            what=detail,
            remedies=helping,
            request_id=request_ids.current(),
        )
        return Response(page, status)
    body = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_ids.current(),
        **remedies.shown(helping),
        **data,
    }
    answer = Response(json.dumps(body), status, mimetype="application/problem+json")
    if status == STATUS[Unauthorized.code]:
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


def invalid(error: ValidationError) -> Response:
    """Return the answer to a body, query or path that does not fit its model: flask-openapi's."""
    refused = bad_request(error)
    return problem(422, refused.code, refused.message, *refused.remedies, **refused.data)


def _farm_error(error: FarmError) -> Response:
    status = STATUS.get(error.code, 500)
    data = problem_data(told(error))
    answer = problem(status, error.code, error.message, *error.remedies, **data)
    if again := error.data.get("retry_after_seconds"):
        answer.headers["Retry-After"] = str(again)
    return answer


def _http_error(error: HTTPException) -> Response:
    status = error.code or 500
    if status < 400 and error.response is not None:
        return error.get_response()  # type: ignore[return-value]  # werkzeug's, which Flask takes
    code = error.name.lower().replace(" ", "_")
    helps = NEXT.get(status, CHANGE_IT)
    answer = problem(status, code, error.description or error.name, helps)
    for name, value in error.get_headers():
        if name in KEPT_HEADERS:
            answer.headers[name] = value
    return answer


def _too_deep(_: RecursionError) -> Response:
    return _farm_error(BadRequest("The body is nested too deeply."))


def _bug(error: Exception) -> Response:
    log.error("request failed", path=request.path, method=request.method, exc_info=error)
    return problem(
        500,
        "farm_error",
        "Something broke inside the farm; nothing was charged for this request.",
        LookAt(Listing.LOGS, "Report it to the operator, with this request's id.", "web"),
    )
