"""Topping a session up, reopening it and making it the default, from a budget or a notice."""

import hashlib
import re
from decimal import Decimal
from typing import Final

from flask import make_response, redirect, render_template, request
from flask_login import login_required
from werkzeug.wrappers import Response

from orchestrator.errors import BadRequest, FarmError
from orchestrator.farm import Idempotency
from orchestrator.farm.accounts import sessions
from orchestrator.model import Json
from orchestrator.remedies import Say
from web.api.bodies import gpu_ms
from web.context import farm
from web.errors import STATUS
from web.pages import page_data
from web.pages.blueprint import bp
from web.pages.page_data import me
from web.pages.signing import own_path
from web.threads import in_thread

MOST_CHARS: Final = 20
"""Of what was typed, shown again."""
AMOUNT: Final = re.compile(r"[0-9]{1,10}(\.[0-9]{1,3}|,[0-9]{1,2})?")
"""`1,000` may be one second or a thousand: it is not taken."""


@bp.post("/top-ups")
@login_required
def top_up() -> Response:
    """Raise the budget of an own session: the budget's card for htmx, and the page one was on."""
    typed = request.form.get("exactly") or request.form.get("gpu_seconds", "")
    session_id = request.form.get("session", "")
    back = own_path(request.form.get("next", "")) or "/"
    alone = "HX-Request" in request.headers
    try:
        given = amount(typed)
        key = request.form.get("request_key", "")[:100]
        digest = hashlib.sha256(f"{session_id} {given}".encode()).hexdigest()
        promise = Idempotency(key=f"page {key} {digest}", body_sha256=digest)
        in_thread(sessions.top_up, farm(), me(), session_id, given, promise)
    except FarmError as error:
        trouble = {"what": error.message, "remedies": error.remedies}
        shown = in_thread(page_data.budget, me(), session_id or None)
        shown |= {"not_topped_up": trouble, "typed_amount": typed[:MOST_CHARS]}
        return _answer(shown, back, alone=alone, status=STATUS.get(error.code, 500))
    if not alone:
        return redirect(back, 303)
    shown = in_thread(page_data.budget, me(), session_id) | {"topped_up_gpu_ms": given}
    answer = _answer(shown, back, alone=True)
    answer.headers["HX-Trigger"] = "topped-up"
    return answer


@bp.post("/sessions")
@login_required
def change_session() -> Response:
    """Reopen an own session (`reopen`), or make it the one of requests that name none (`default`).

    Then show the page one was on.
    """
    form = request.form
    if session_id := form.get("reopen", ""):
        in_thread(sessions.reopen, farm(), me(), session_id)
    else:
        in_thread(sessions.make_default, farm(), me(), form.get("default", ""))
    return redirect(own_path(form.get("next", "")) or "/", 303)


def amount(text: str) -> int:
    """Return what was typed as GPU-ms.

    Raises:
        BadRequest: it is no number of seconds with three places at most.
    """
    if not AMOUNT.fullmatch(text.strip()):
        raise BadRequest(
            "The amount must be GPU-seconds, such as 60 or 4.5.",
            Say("Write a number without a thousands separator, with three decimal places at most."),
        )
    return gpu_ms(Decimal(text.strip().replace(",", ".")))


def _answer(shown: Json, back: str, *, alone: bool, status: int = 200) -> Response:
    page = "_topped.html" if alone else "top_up.html"
    return make_response(render_template(page, **{**shown, "back_here": back}), status)
